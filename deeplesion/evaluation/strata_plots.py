"""Plots of strata with intervals, and of the calibration of scores."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from deeplesion.evaluation.bootstrap import Interval, SetFigures
from deeplesion.evaluation.calibration import Reliability
from deeplesion.evaluation.plots import COLORS, MARKERS, escape_math, new_axes, save

#: Inches of a stratum, of a further detector in it, and of all that is around the strata.
ROW_HEIGHT = 0.3
DETECTOR_HEIGHT = 0.12
MARGIN_HEIGHT = 1.2
#: Names of more letters than these stand below each other.
LONG_NAME = 20
#: Least range of sensitivities that a plot shows.
LEAST_RANGE = 0.3


def plot_strata(
    labels: Sequence[str],
    figures: Mapping[str, Sequence[SetFigures]],
    path: str | os.PathLike[str],
    *,
    fps: float | None = None,
    overall: Mapping[str, SetFigures] | None = None,
    groups: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Draw sensitivity by stratum: a dot for each detector with its interval, and the lesions.

    Args:
        labels: Of the strata, from top to bottom.
        figures: By the name of the detector, one for each stratum.
        path: The file; its suffix chooses the format (PNG, PDF, SVG).
        fps: False positives per image; None: the mean sensitivity.
        overall: Of the whole set by the name of the detector: dashed lines.
        groups: Of the strata, such as their kind: a rule parts those of different ones.
        title: Above the plot.

    Raises:
        ValueError: If there is not one figure for each stratum, or none at ``fps``.
    """
    _check_rows(labels, figures, groups)
    row_height = ROW_HEIGHT + DETECTOR_HEIGHT * max(len(figures) - 1, 0)
    figure, axes = new_axes((6.4, MARGIN_HEIGHT + row_height * max(len(labels), 1)), title)
    spread = DETECTOR_HEIGHT * 1.6 / row_height
    styles = zip(cycle(COLORS), cycle(MARKERS), strict=False)
    for index, ((name, row), (color, marker)) in enumerate(
        zip(figures.items(), styles, strict=False)
    ):
        shift = (index - (len(figures) - 1) / 2) * spread
        intervals = [_at(stratum, fps) for stratum in row]
        _draw_dots(axes, name, intervals, shift, color=color, marker=marker)
        if overall and name in overall:
            axes.axvline(_at(overall[name], fps).value, color=color, linestyle="--", linewidth=1)
    axes.set_xlim(_left_end(figures, fps), 1)
    _label_rows(axes, labels, next(iter(figures.values()), ()))
    for row_index in range(1, len(groups)):
        if groups[row_index] != groups[row_index - 1]:
            axes.axhline(row_index - 0.5, color="0.6", linewidth=0.8)
    what = (
        "mean sensitivity" if fps is None else f"sensitivity at {fps:g} false positives per image"
    )
    axes.set_xlabel(what + (" (dashed: all lesions)" if overall else ""))
    if len(figures) > 1:
        columns = 1 if max(map(len, figures)) > LONG_NAME else 3
        figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    save(figure, path)


def plot_calibration(
    reliabilities: Mapping[str, Reliability],
    path: str | os.PathLike[str],
    title: str | None = None,
) -> None:
    """Draw the share of boxes on a lesion against their mean score, bin by bin, with intervals.

    Args:
        reliabilities: By the name of the detector; those without boxes are named, not drawn.
        path: The file; its suffix chooses the format (PNG, PDF, SVG).
        title: Above the plot.
    """
    figure, axes = new_axes((5.2, 5.2), title)
    scores = [row.score for row in reliabilities.values()]
    # Scores that are no probabilities have their own range.
    low, high = (float(limit(np.concatenate([*scores, [0.0, 1.0]]))) for limit in (np.min, np.max))
    axes.plot(
        [0, 1], [0, 1], color="0.5", linestyle="--", linewidth=1, zorder=1, label="calibrated"
    )
    styles = zip(cycle(COLORS), cycle(MARKERS), strict=False)
    for (name, row), (color, marker) in zip(reliabilities.items(), styles, strict=False):
        ends = np.nan_to_num([row.share - row.low, row.high - row.share])
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
        axes.errorbar(
            row.score,
            row.share,
            yerr=np.maximum(ends, 0),
            linewidth=1.6,
            elinewidth=1.2,
            label=_calibration_label(name, row),
            clip_on=False,
            **style,
        )
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean score of the boxes of a bin")
    axes.set_ylabel("share of them on a lesion")
    if reliabilities:
        axes.legend(loc="upper left", framealpha=0.9)
    save(figure, path)


def _check_rows(
    labels: Sequence[str], figures: Mapping[str, Sequence[SetFigures]], groups: Sequence[str]
) -> None:
    wanted = f"one {{}} for each of {len(labels)} strata, got {{}}"
    for name, row in figures.items():
        if len(row) != len(labels):
            raise ValueError(f"{name!r} must have {wanted.format('figure', len(row))}")
    if groups and len(groups) != len(labels):
        raise ValueError(f"groups must have {wanted.format('name', len(groups))}")


def _at(figures: SetFigures, fps: float | None) -> Interval:
    if fps is None:
        return figures.mean
    if fps not in figures.sensitivity:
        raise ValueError(f"fps must be one of {list(figures.sensitivity)}, got {fps}")
    return figures.sensitivity[fps]


def _left_end(figures: Mapping[str, Sequence[SetFigures]], fps: float | None) -> float:
    """The tenth below all that is drawn: dots, unlike bars, need no axis from 0."""
    drawn = [end for row in figures.values() for part in row for end in _at(part, fps)]
    lowest = np.floor(10 * min((end for end in drawn if not math.isnan(end)), default=0)) / 10
    return float(np.clip(lowest, 0, 1 - LEAST_RANGE))


def _draw_dots(
    axes: Axes, name: str, intervals: Sequence[Interval], shift: float, color: str, marker: str
) -> None:
    """Dots at rows 0, 1, ... moved by ``shift``; whiskers where there is an interval."""
    values = np.array([interval.value for interval in intervals], np.float64)
    ends = np.array([[i.value - i.low, i.high - i.value] for i in intervals]).reshape(-1, 2).T
    axes.errorbar(
        values,
        np.arange(len(values)) + shift,
        # Rounding may leave an end on the wrong side by less than can be seen.
        xerr=np.maximum(np.nan_to_num(ends), 0),
        linestyle="",
        marker=marker,
        markersize=5,
        color=color,
        elinewidth=1.4,
        capsize=2.5,
        label=escape_math(name),
        clip_on=False,
        zorder=3,
    )


def _label_rows(axes: Axes, labels: Sequence[str], figures: Sequence[SetFigures]) -> None:
    """Names of strata at the left, numbers of lesions at the right."""
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), [escape_math(label) for label in labels])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(figures)), [f"{row.lesions}" for row in figures])
    right.tick_params(axis="y", length=0)
    right.spines["right"].set_visible(False)
    axes.annotate(
        "lesions", (1, 1), xytext=(4, 4), xycoords="axes fraction", textcoords="offset points"
    )


def _calibration_label(name: str, row: Reliability) -> str:
    if not len(row.boxes):
        return f"{escape_math(name)}: no boxes"
    error = "scores are no probabilities" if math.isnan(row.error) else f"error {row.error:.3f}"
    return f"{escape_math(name)}: {error}"
