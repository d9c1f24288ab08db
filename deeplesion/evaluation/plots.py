"""FROC plots, by matplotlib without its global state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from deeplesion.evaluation.bootstrap import Band
from deeplesion.evaluation.froc import (
    MEAN_FPS,
    REPORT_FPS,
    FROCCurve,
    curve_corners,
    mean_sensitivity,
    sensitivity_at,
)
from deeplesion.io import atomic_write

FPS_RANGE = (1 / 8, 16.0)
#: Okabe and Ito's, told apart by color-blind people; black for the first, which is the whole set.
COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_froc(
    curves: Mapping[str, FROCCurve],
    path: str | os.PathLike[str],
    title: str | None = None,
    bands: Mapping[str, Band] | None = None,
) -> None:
    """Draw FROC curves into one plot.

    Sensitivity from 0 to 1 over 1/8 to 16 false positives per image, on a logarithmic axis. Marks
    are what tables give; beyond its end, where sensitivity stays as it is, a curve is dotted. A
    band is the interval at each number of false positives, a light fill behind all curves.

    Args:
        curves: By the name that the legend shows; those without lesions are named, not drawn.
        path: The file; its suffix chooses the format (PNG, PDF, SVG).
        title: Above the plot.
        bands: Intervals by the name of their curve, for any of the curves.

    Raises:
        ValueError: If a band has the name of no curve.
    """
    bands = bands or {}
    if unknown := sorted(set(bands) - set(curves)):
        raise ValueError(f"band {unknown[0]!r} has no curve: curves are {list(curves)}")
    figure, axes = new_axes((6.4, 4.8), title)
    _set_up(axes)
    # The first is the whole set: above the others.
    styles = zip(cycle(COLORS), cycle(MARKERS), range(len(curves), 0, -1), strict=False)
    for (name, curve), (color, marker, order) in zip(curves.items(), styles, strict=False):
        _draw(axes, name, curve, color=color, marker=marker, order=order)
        if name in bands and not np.isnan(bands[name].low).any():
            band = bands[name]
            axes.fill_between(
                band.fps, band.low, band.high, color=color, alpha=0.15, linewidth=0, zorder=1.5
            )
    if curves:
        means = ", ".join(f"{fps:g}" for fps in MEAN_FPS)
        axes.legend(
            loc="lower right", title=f"mean at {means} FPs", alignment="left", framealpha=0.9
        )
    save(figure, path)


def new_axes(size: tuple[float, float], title: str | None = None) -> tuple[Figure, Axes]:
    """A figure of our look, apart from matplotlib's global state.

    Args:
        size: Width and height in inches.
        title: Above the plot, at its left.

    Returns:
        The figure and its axes, with a light grid.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="0.88", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(escape_math(title), loc="left")
    return figure, axes


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; the suffix of the path chooses the format (PNG, PDF, SVG)."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def escape_math(text: str) -> str:
    """A text without mathematics, which matplotlib would otherwise see between two ``$``."""
    return text.replace("$", r"\$")


def _set_up(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(*FPS_RANGE)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(FixedLocator(REPORT_FPS))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{fps:g}" for fps in REPORT_FPS]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(np.linspace(0, 1, 11))
    axes.set_xlabel("false positives per image")
    axes.set_ylabel("sensitivity")


def _draw(axes: Axes, name: str, curve: FROCCurve, color: str, marker: str, order: int) -> None:
    mean, name = mean_sensitivity(curve), escape_math(name)
    if np.isnan(mean):
        axes.plot([], [], color=color, marker=marker, label=f"{name}: no lesions")
        return
    corners = curve_corners(curve)
    low, high = FPS_RANGE
    end = min(float(corners.fps_per_image[-1]), high) if len(corners.fps_per_image) else 0.0
    inside = (corners.fps_per_image > low) & (corners.fps_per_image <= end)
    ends = np.array([low, max(end, low)])
    first, last = sensitivity_at(curve.sensitivity, curve.fps_per_image, ends)
    x = np.concatenate([ends[:1], corners.fps_per_image[inside], ends[1:]])
    y = np.concatenate([[first], corners.sensitivity[inside], [last]])
    style: dict[str, Any] = {"color": color, "zorder": 2 + order, "clip_on": False}
    axes.plot(x, y, linewidth=1.8, solid_joinstyle="round", **style)
    axes.plot([x[-1], high], [y[-1], y[-1]], linestyle=":", linewidth=1.4, **style)
    marks = sensitivity_at(curve.sensitivity, curve.fps_per_image, REPORT_FPS)
    axes.plot(REPORT_FPS, marks, linestyle="", marker=marker, markersize=5, **style)
    axes.plot(
        [], [], color=color, marker=marker, markersize=5, linewidth=1.8, label=f"{name}: {mean:.3f}"
    )
