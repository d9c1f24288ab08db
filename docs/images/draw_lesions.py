"""Draws the picture of docs/lesions.md: boxes linked over slices, and the axes of a mask.

Both are computed by the functions that they show.

    python docs/images/draw_lesions.py
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from slice_drawing import DPI, FAINT, INK, SLICE_COLORS, WIDTH

from deeplesion.io import atomic_write
from deeplesion.lesions.axes import Segment, axes_of_mask
from deeplesion.lesions.lesion import SliceDetections
from deeplesion.lesions.linking import LINK_THRESHOLD, SCORE_THRESHOLD, link_detections

HERE = Path(__file__).resolve().parent
HEIGHT = 3.0
SPACING = (0.8, 0.8, 2.5)  # mm
TOP, BOTTOM = 10, 40  # px, of all boxes
#: By slice: first and last column and score of boxes.
FOUND: dict[int, list[tuple[float, float, float]]] = {
    0: [(12, 30, 0.15)],
    1: [(10, 32, 0.62), (47, 58, 0.22)],
    2: [(9, 33, 0.91), (13, 22, 0.48), (46, 60, 0.84)],
    3: [(46, 61, 0.79), (72, 84, 0.18)],
    4: [(11, 34, 0.74), (48, 60, 0.31)],
    5: [(13, 33, 0.28), (70, 82, 0.06)],
}


def draw_links(axes: Axes) -> None:
    """Boxes seen from the front: a bar each; what was linked has a color and a line."""
    found = [
        SliceDetections(
            z,
            np.array([[x1, TOP, x2, BOTTOM] for x1, x2, _ in rows], float),
            np.array([score for *_, score in rows]),
        )
        for z, rows in FOUND.items()
    ]
    lesions = link_detections(found, SPACING)
    linked = {
        (z, box[0], box[2])
        for each in lesions
        for z, box in zip(each.slices, each.boxes, strict=True)
    }
    for z, rows in FOUND.items():
        for x1, x2, score in rows:
            if (z, x1, x2) not in linked:
                _bar(axes, z, x1, x2, score, FAINT, 0.22)
    for lesion in lesions:
        color = SLICE_COLORS[(lesion.number - 1) * 4]
        centers = lesion.boxes[:, [0, 2]].mean(axis=1)
        axes.plot(centers, lesion.slices, color=color, lw=1.2, zorder=1)
        for z, box, score in zip(lesion.slices, lesion.boxes, lesion.scores, strict=True):
            _bar(axes, z, box[0], box[2], score, color)
    axes.set(xlim=(0, 92), ylim=(5.6, -0.6), xlabel="x in px", ylabel="slice")
    axes.set_title("Linking", fontsize=9, color=INK, loc="left", pad=16)
    rule = (
        f"thin and gray: below {SCORE_THRESHOLD:g} in every slice, below {LINK_THRESHOLD:g}, "
        "or within a better one"
    )
    axes.text(0, 1.03, rule, fontsize=6, color=INK, transform=axes.transAxes)
    axes.spines[["top", "right"]].set_visible(False)


def _bar(
    axes: Axes, z: float, x1: float, x2: float, score: float, color: str, height: float = 0.5
) -> None:
    layer = 5 if height < 0.5 else 2
    axes.barh(z, x2 - x1, height, x1, color="white", zorder=layer)
    axes.barh(z, x2 - x1, height, x1, color=color, alpha=0.25 + 0.6 * score, zorder=layer + 1)
    axes.text(x2 + 1, z, f"{score:.2f}", fontsize=6, va="center", color=INK, zorder=layer + 2)


def blob() -> NDArray[np.bool_]:
    """An oblique ellipse with a bump."""
    y, x = np.mgrid[:26, :34]
    u, v = (x - 16) * 0.9 + (y - 13) * 0.44, (y - 13) * 0.9 - (x - 16) * 0.44
    mask: NDArray[np.bool_] = (u / 13) ** 2 + (v / 6.5) ** 2 <= 1
    mask |= (x - 12) ** 2 + (y - 17) ** 2 <= 20
    return mask


def draw_axes(axes: Axes) -> None:
    """A mask, pixel by pixel, and its axes."""
    mask = blob()
    axes.imshow(mask, cmap="Blues", vmin=0, vmax=3, interpolation="nearest")
    axes.set_xticks(np.arange(-0.5, mask.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, mask.shape[0]), minor=True)
    axes.grid(which="minor", color="white", lw=0.4)
    axes.tick_params(which="both", length=0)
    axes.set(xticks=[], yticks=[])
    long, short = axes_of_mask(mask, SPACING[:2])
    _axis(axes, long, SLICE_COLORS[4], "long axis", (1.0, (-34, -20)))
    _axis(axes, short, SLICE_COLORS[2], "short axis", (1.0, (3, 3)))
    axes.set_title("Measuring", fontsize=9, color=INK, loc="left", pad=16)
    area = mask.sum() * SPACING[0] * SPACING[1]
    text = f"pixels of {SPACING[0]:g} x {SPACING[1]:g} mm, area {area:.0f} mm²"
    axes.text(0, 1.03, text, fontsize=6, color=INK, transform=axes.transAxes)
    axes.spines[:].set_visible(False)


def _axis(
    axes: Axes, segment: Segment, color: str, name: str, label: tuple[float, tuple[int, int]]
) -> None:
    axes.plot(*segment.ends.T, color=color, lw=1.6, marker="o", ms=3.5)
    share, offset = label
    place = segment.ends[0] + share * (segment.ends[1] - segment.ends[0])
    text = f"{name} {segment.mm:.1f} mm"
    axes.annotate(text, place, offset, textcoords="offset points", fontsize=7, color=color)


def draw() -> Figure:
    """The picture."""
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor="white")
    links = figure.add_axes((0.07, 0.15, 0.5, 0.68))
    links.tick_params(labelsize=7)
    links.xaxis.label.set_fontsize(7)
    links.yaxis.label.set_fontsize(7)
    draw_links(links)
    draw_axes(figure.add_axes((0.62, 0.08, 0.37, 0.75), anchor="NW"))
    return figure


def main(argv: list[str] | None = None) -> int:
    """Draw; returns the exit code."""
    parser = argparse.ArgumentParser(description="Draw the picture of docs/lesions.md.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder (default: this one)")
    args = parser.parse_args(argv)
    content = io.BytesIO()
    FigureCanvasAgg(draw()).print_png(content, metadata={"Software": None})
    with atomic_write(args.out / "lesions.png") as temporary:
        temporary.write_bytes(content.getvalue())
    print(args.out / "lesions.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
