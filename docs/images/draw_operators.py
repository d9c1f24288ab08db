"""Draws the pictures of the operators' pages: which slice every channel comes from.

Nothing in the grids is drawn by hand: each operator is given stacks of which one slice is 1 and all
others are 0, and what comes out says what that slice contributes.

    python docs/images/draw_operators.py
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from slice_drawing import (
    ABOVE,
    CHANNELS,
    DEPTH,
    DPI,
    KERNEL,
    LEFT,
    N_FOLD,
    RIGHT,
    WIDTH,
    Shares,
    bracket,
    draw_arrow,
    draw_box,
    draw_grid,
    draw_images,
    draw_stack,
    draw_voxels,
    kernel_voxels,
    label_axes,
    label_channels,
    label_slices,
    new_figure,
)

from alignshift.operators import (
    ACSConv,
    I3DConv,
    SliceConv,
    adaptive_align,
    align_shift,
    temporal_shift,
)
from deeplesion.io import atomic_write

HERE = Path(__file__).resolve().parent
THIN, THICK = 2.0, 5.0  # mm
UNTRAINED, TRAINED = 0.1, 0.5  # how far A3D's weights are from the identity


def one_hot_stacks(channels: int = CHANNELS, side: int = 1) -> torch.Tensor:
    """Stacks (D, C, D, side, side); the n-th has ones in slice n alone."""
    ones = torch.eye(DEPTH).view(DEPTH, 1, DEPTH, 1, 1)
    return ones.expand(-1, channels, -1, side, side).clone()


def shares_of(mix: Callable[[torch.Tensor], torch.Tensor]) -> Shares:
    """What each slice contributes to each channel of each slice that comes out.

    Args:
        mix: An operator of stacks (N, C, D, H, W) without a bias.
    """
    with torch.no_grad():
        out = mix(one_hot_stacks(side=KERNEL))
    center = out[..., out.shape[-2] // 2, out.shape[-1] // 2]
    shares = center.permute(2, 1, 0).abs().double().numpy()
    return shares / np.maximum(shares.sum(-1, keepdims=True), 1)


def convolution_shares(operator: type[SliceConv], **settings: object) -> Shares:
    """`shares_of` a convolution by a 2D kernel whose weights are all alike."""
    conv = operator(CHANNELS, CHANNELS, KERNEL, padding=1, bias=False, **settings)
    weight = torch.full((CHANNELS, CHANNELS, KERNEL, KERNEL), 1 / (CHANNELS * KERNEL**2))
    conv.load_state_dict({"weight": weight})
    return shares_of(conv)


def align_shift_shares(thickness: float) -> Shares:
    """`shares_of` AlignShift on slices of a thickness in mm."""
    mm = torch.full((DEPTH,), thickness)
    return shares_of(lambda x: align_shift(x, mm, N_FOLD))


def a3d_shares(noise: float) -> Shares:
    """`shares_of` A3D with weights that are this far from the identity, the same every time."""
    generator = torch.Generator().manual_seed(3)
    weights = torch.eye(DEPTH)[:, :, None] * (1 - 0.5 * noise) + noise * (
        2 * torch.rand(DEPTH, DEPTH, CHANNELS, generator=generator) - 1
    )
    mixed = shares_of(lambda x: adaptive_align(x, weights))
    return mixed / mixed.sum(-1, keepdims=True)


def draw_slice_conv() -> Figure:
    """Every slice alone."""
    figure, (before, after, kernel) = new_figure(2.15, (2.2, 2.2, 1.5))
    draw_grid(before, shares_of(lambda x: x), "stack", "before")
    draw_grid(after, convolution_shares(SliceConv), "SliceConv", "every slice reads itself")
    draw_voxels(kernel, kernel_voxels(1), "kernel", "1 x k x k, in the slice")
    label_axes(before)
    return figure


def draw_align_shift() -> Figure:
    """Thin, thick and very thick slices."""
    figure, axes = new_figure(1.75, [1.55] * 4)
    percent = f"{100 * THIN / THICK:.0f} % from the neighbor"
    panels = (
        ("stack", "before", shares_of(lambda x: x)),
        (f"{THIN:g} mm or thinner", "shifted by a whole slice", align_shift_shares(THIN)),
        (f"{THICK:g} mm", percent, align_shift_shares(THICK)),
        ("unknown, or very thick", "the 2D network", align_shift_shares(float("nan"))),
    )
    for panel, (title, subtitle, shares) in zip(axes, panels, strict=True):
        draw_grid(panel, shares, title, subtitle)
    label_axes(axes[0])
    _name_folds(axes[1:])
    return figure


def draw_tsm() -> Figure:
    """Whole slices, zeros at the open ends."""
    figure, (_, before, after, _) = new_figure(2.15, (0.3, 2.2, 2.2, 0.3))
    for empty in (figure.axes[0], figure.axes[3]):
        empty.remove()
    draw_grid(before, shares_of(lambda x: x), "stack", "before")
    draw_grid(after, shares_of(lambda x: temporal_shift(x, N_FOLD)), "TSM", "at any thickness")
    label_axes(before)
    _name_folds([after])
    return figure


def _name_folds(panels: Sequence[Axes]) -> None:
    fold = CHANNELS // N_FOLD
    for panel in panels:
        bracket(panel, 0, fold, "z + 1")
        bracket(panel, fold, 2 * fold, "z - 1")
        bracket(panel, 2 * fold, CHANNELS, "stay")


def draw_a3d() -> Figure:
    """The weights as they begin, and some that are further from the identity."""
    figure, (before, start, later) = new_figure(2.05, [2.05] * 3)
    draw_grid(before, shares_of(lambda x: x), "stack", "before")
    draw_grid(start, a3d_shares(UNTRAINED), "A3D, untrained", "the identity plus noise")
    draw_grid(later, a3d_shares(TRAINED), "A3D, trained", "for example: each channel in its way")
    label_axes(before)
    return figure


def draw_acs() -> Figure:
    """Output channels by plane, and the three kernels."""
    figure, (grid, *kernels) = new_figure(2.05, (2.2, 1.3, 1.3, 1.3))
    draw_grid(grid, convolution_shares(ACSConv), "ACS", "slices that a channel reads")
    ends = np.cumsum([0, *(CHANNELS // 3 + (i < CHANNELS % 3) for i in range(3))])
    panels = (
        ("axial", "1 x k x k", kernel_voxels(1)),
        ("coronal", "k x 1 x k", kernel_voxels(slice(None), 1)),
        ("sagittal", "k x k x 1", kernel_voxels(slice(None), slice(None), 1)),
    )
    for index, (axes, (plane, size, voxels)) in enumerate(zip(kernels, panels, strict=True)):
        bracket(grid, ends[index], ends[index + 1], plane)
        draw_voxels(axes, voxels, plane, size)
    label_slices(grid)
    return figure


def draw_i3d() -> Figure:
    """Both ways to inflate."""
    figure, axes = new_figure(1.85, (1.9, 1.25, 1.9, 1.25))
    mean, mean_kernel, center, center_kernel = axes
    shares = convolution_shares(I3DConv, inflate="mean")
    draw_grid(mean, shares, 'inflate="mean"', "slices that a channel reads")
    draw_voxels(mean_kernel, kernel_voxels(slice(None)), "kernel", "2D / k in every slice")
    shares = convolution_shares(I3DConv, inflate="center")
    draw_grid(center, shares, 'inflate="center"', "before training")
    draw_voxels(center_kernel, kernel_voxels(1), "kernel", "2D between zeros")
    label_axes(mean)
    return figure


def draw_overview() -> Figure:
    """What comes out of each operator."""
    height, width, rows = 3.85, 2.05, 2
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    panels = (
        ("SliceConv", "each slice alone", convolution_shares(SliceConv)),
        ("TSM", "shifted by whole slices", shares_of(lambda x: temporal_shift(x, N_FOLD))),
        ("AlignShift", f"the less, the thicker: here {THICK:g} mm", align_shift_shares(THICK)),
        ("A3D", "learned, from all slices", a3d_shares(TRAINED)),
        ("ACS", "kernels in three planes", convolution_shares(ACSConv)),
        ("I3D", "kernels with depth", convolution_shares(I3DConv)),
    )
    for index, (title, subtitle, shares) in enumerate(panels):
        row, column = divmod(index, len(panels) // rows)
        left = LEFT + column * (width + (WIDTH - LEFT - RIGHT - 3 * width) / 2)
        bottom = height - ABOVE - width * DEPTH / CHANNELS - row * 1.78
        size = (width / WIDTH, width * DEPTH / CHANNELS / height)
        panel = figure.add_axes((left / WIDTH, bottom / height, *size))
        draw_grid(panel, shares, title, subtitle)
        if column == 0:
            label_slices(panel)
        if row == rows - 1:
            label_channels(panel)
    return figure


def draw_folding() -> Figure:
    """The way of a volume through a converted network."""
    figure = Figure(figsize=(WIDTH, 2.0), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 70), ylim=(0, 20))
    axes.axis("off")
    draw_box(axes, 14, 31, "layers of the 2D network", "as they are, on N * D images")
    draw_box(axes, 36, 56, "a converted convolution", "unfold, mix, convolve, fold")
    draw_stack(axes, 2, "volume", "(N, C, D, H, W)")
    draw_images(axes, 16.5)
    draw_stack(axes, 42.2)
    draw_stack(axes, 60, "output", "(N, K, D, ...)")
    draw_arrow(axes, (10.3, 13.6), "fold")
    draw_arrow(axes, (31.4, 35.6), "in turn", style="<|-|>")
    draw_arrow(axes, (56.3, 59.6), "unfold")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "operators/overview.png": draw_overview,
    "operators/slice_conv.png": draw_slice_conv,
    "operators/align_shift.png": draw_align_shift,
    "operators/tsm.png": draw_tsm,
    "operators/a3d.png": draw_a3d,
    "operators/acs.png": draw_acs,
    "operators/i3d.png": draw_i3d,
    "operators/folding.png": draw_folding,
}


def main(argv: list[str] | None = None) -> int:
    """Draw all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the operators' pages.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder (default: this one)")
    args = parser.parse_args(argv)
    for name, draw in PICTURES.items():
        figure, content = draw(), io.BytesIO()
        FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
        with atomic_write(args.out / name) as temporary:
            temporary.write_bytes(content.getvalue())
        print(args.out / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
