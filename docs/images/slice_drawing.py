"""Grids, kernels, boxes and arrows that the pictures of slices are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from numpy.typing import NDArray

DPI = 200
WIDTH = 7.0  # inches, so that text has its true size in a page of 700 px
DEPTH = 5
CHANNELS = 8
N_FOLD = 4
# Okabe and Ito's colors, which color-blind readers can tell apart, in an order of their own; the
# numbers in the cells say the same.
SLICE_COLORS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00")
NUMBER_COLORS = ("white", "black", "white", "black", "white")
LEFT, RIGHT, ABOVE, BELOW = 0.36, 0.06, 0.38, 0.36  # inches around the panels
INK, FAINT, NOTHING = "#222222", "#8a8a8a", "#f2f2f2"
KERNEL = 3
# Shares from out slice, channel and in slice, (D, C, D); they add up to at most 1.
Shares = NDArray[np.float64]


def new_figure(height: float, widths: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, in inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    gap = (WIDTH - LEFT - RIGHT - sum(widths)) / max(1, len(widths) - 1)
    axes, left = [], LEFT
    for width in widths:
        box = (left / WIDTH, BELOW / height, width / WIDTH, 1 - (ABOVE + BELOW) / height)
        axes.append(figure.add_axes(box))
        left += width + gap
    return figure, axes


def draw_grid(axes: Axes, shares: Shares, title: str, subtitle: str = "") -> None:
    """Slices from top to bottom, channels from left to right, stripes as wide as the shares."""
    depth, channels, _ = shares.shape
    for row, column in product(range(depth), range(channels)):
        _draw_cell(axes, column, row, shares[row, column])
    axes.set(xlim=(-0.06, channels + 0.06), ylim=(depth + 0.06, -0.06))
    _finish(axes, title, subtitle)


def _finish(axes: Axes, title: str, subtitle: str) -> None:
    """Titles at the same height over all panels of a row, whatever their shapes."""
    axes.set_aspect("equal", anchor="N")
    axes.axis("off")
    figure = axes.figure
    box = axes.get_position(original=True)
    inch = 1 / figure.get_size_inches()[1]
    x = (box.x0 + box.x1) / 2
    style = {"ha": "center", "va": "bottom"}
    figure.text(x, box.y1 + 0.19 * inch, title, fontsize=8.5, color=INK, **style)
    figure.text(x, box.y1 + 0.05 * inch, subtitle, fontsize=7, color=FAINT, **style)


def _draw_cell(axes: Axes, x: float, y: float, shares: NDArray[np.float64]) -> None:
    gap = 0.05
    side = 1 - 2 * gap
    frame = Rectangle((x + gap, y + gap), side, side, facecolor=NOTHING, edgecolor="none")
    axes.add_patch(frame)
    if shares.sum() < 1e-6:
        axes.text(x + 0.5, y + 0.5, "0", ha="center", va="center", fontsize=6.5, color=FAINT)
    left = x + gap
    for index in np.flatnonzero(shares > 1e-6):
        width = side * shares[index]
        stripe = Rectangle((left, y + gap), width, side, facecolor=SLICE_COLORS[index], lw=0)
        axes.add_patch(stripe)
        if width > 0.25:
            place = (left + width / 2, y + 0.51)
            color = NUMBER_COLORS[index]
            axes.text(*place, str(index + 1), ha="center", va="center", fontsize=6, color=color)
        left += width


ARROW = {"arrowstyle": "-|>", "color": FAINT, "lw": 0.8, "mutation_scale": 7, "clip_on": False}


def label_axes(axes: Axes) -> None:
    """Say what rows and columns are."""
    label_slices(axes)
    label_channels(axes)


def label_slices(axes: Axes) -> None:
    """Say what the rows are, to the left of a grid."""
    axes.add_patch(FancyArrowPatch((-0.4, 0), (-0.4, DEPTH), **ARROW))
    axes.text(-0.65, DEPTH / 2, "slices", rotation=90, ha="right", va="center", **small_text())


def label_channels(axes: Axes) -> None:
    """Say what the columns are, below a grid."""
    y = DEPTH + 0.4
    axes.add_patch(FancyArrowPatch((0, y), (CHANNELS, y), **ARROW))
    axes.text(CHANNELS / 2, y + 0.25, "channels", ha="center", va="top", **small_text())


def small_text() -> dict[str, object]:
    return {"fontsize": 7, "color": FAINT}


def bracket(axes: Axes, start: float, end: float, text: str) -> None:
    """Name a range of channels below a grid."""
    y = DEPTH + 0.3
    line = {"color": INK, "lw": 0.8, "clip_on": False}
    axes.plot([start + 0.1, start + 0.1, end - 0.1, end - 0.1], [y - 0.15, y, y, y - 0.15], **line)
    axes.text((start + end) / 2, y + 0.2, text, ha="center", va="top", fontsize=7, color=INK)


def draw_voxels(axes: Axes, used: NDArray[np.bool_], title: str, subtitle: str = "") -> None:
    """A 3 x 3 x 3 kernel in parallel projection; ``used`` (slice, row, column) is colored."""
    for z in range(KERNEL - 1, -1, -1):
        for y, x in product(range(KERNEL - 1, -1, -1), range(KERNEL)):
            _draw_voxel(axes, (x, y, z), bool(used[z, y, x]))
        # Slices in the middle of a stack, as numbers and colors say.
        axes.text(-0.25, _height(z) + 0.5, str(z + 2), ha="right", va="center", **small_text())
    axes.set(xlim=(-0.6, 5.2), ylim=(-0.3, 5.4))
    _finish(axes, title, subtitle)


def _height(z: int) -> float:
    return (KERNEL - 1 - z) * 1.3


def _draw_voxel(axes: Axes, position: tuple[int, int, int], used: bool) -> None:
    """Columns go to the right, rows into the depth, slices down."""
    x, y, z = position
    right, back, up = np.array([1.0, 0.0]), np.array([0.6, 0.42]), np.array([0.0, 1.0])
    corner = x * right + y * back + _height(z) * up
    color = SLICE_COLORS[z + 1] if used else "none"
    edge = {"edgecolor": "white" if used else "#d0d0d0", "lw": 0.7, "joinstyle": "round"}
    faces = ((right, up, 0.0), (right, back, 0.35), (up, back, -0.25))
    starts = (corner, corner + up, corner + right)
    for start, (first, second, light) in zip(starts, faces, strict=True):
        outline = [start, start + first, start + first + second, start + second]
        face = _shade(color, light) if used else (1, 1, 1, 0.35)
        axes.add_patch(Polygon(outline, facecolor=face, **edge))


def _shade(color: str, light: float) -> tuple[float, float, float]:
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    shaded = rgb + (1 - rgb) * light if light > 0 else rgb * (1 + light)
    return tuple(shaded)


def kernel_voxels(*planes: int | slice) -> NDArray[np.bool_]:
    """A kernel of which one index of slices, rows and columns is used."""
    used = np.zeros((KERNEL,) * 3, bool)
    used[planes] = True
    return used


def draw_box(axes: Axes, left: float, right: float, title: str, subtitle: str) -> None:
    frame = (left, 1.2), right - left, 17.2
    style = {"boxstyle": "round,pad=0,rounding_size=0.8", "facecolor": "#f7f7f7"}
    axes.add_patch(FancyBboxPatch(*frame, **style, edgecolor="#c4c4c4", lw=0.8))
    middle = (left + right) / 2
    axes.text(middle, 16.6, title, ha="center", va="center", fontsize=8, color=INK)
    axes.text(middle, 14.9, subtitle, ha="center", va="center", **small_text())


def draw_arrow(axes: Axes, span: tuple[float, float], text: str, style: str = "-|>") -> None:
    arrow = {"arrowstyle": style, "color": INK, "lw": 1.0, "mutation_scale": 9}
    ends = [(x, 8) for x in span]
    axes.add_patch(FancyArrowPatch(*ends, shrinkA=0, shrinkB=0, **arrow))
    axes.text(sum(span) / 2, 9, text, ha="center", va="bottom", **small_text())


def draw_stack(axes: Axes, left: float, title: str = "", subtitle: str = "") -> None:
    """Slices over one another, the first on top."""
    for index in reversed(range(DEPTH)):
        bottom = 3.4 + 1.75 * (DEPTH - 1 - index)
        corners = [(0, 0), (5, 0), (7.6, 2.6), (2.6, 2.6)]
        outline = [(left + x, bottom + y) for x, y in corners]
        axes.add_patch(Polygon(outline, facecolor=SLICE_COLORS[index], edgecolor="white", lw=1))
        color = NUMBER_COLORS[index]
        number = {"ha": "center", "va": "center", "fontsize": 6, "color": color}
        axes.text(left + 1.7, bottom + 0.8, str(index + 1), **number)
    axes.text(left + 3.8, 16.6, title, ha="center", va="center", fontsize=8, color=INK)
    axes.text(left + 3.8, 14.9, subtitle, ha="center", va="center", **small_text())


def draw_images(axes: Axes, left: float) -> None:
    """Slices apart from one another, as the images of a batch."""
    for index in range(DEPTH):
        row, column = divmod(index, 3)
        x, y = left + 4.2 * column + 2.1 * row, 8.6 - 4.2 * row
        square = Rectangle((x, y), 3.6, 3.6, facecolor=SLICE_COLORS[index], edgecolor="none")
        axes.add_patch(square)
        number = {"ha": "center", "va": "center", "fontsize": 6, "color": NUMBER_COLORS[index]}
        axes.text(x + 1.8, y + 1.8, str(index + 1), **number)
