"""FROC figures of a data set: overall, by stratum of images, by stratum of lesions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from deeplesion.datasets.lesion_record import COARSE_TYPES
from deeplesion.evaluation.froc import (
    MEAN_FPS,
    REPORT_FPS,
    FROCCurve,
    curve_corners,
    curve_from_matches,
    mean_sensitivity,
    sensitivity_at,
)
from deeplesion.evaluation.matching import Bools, Floats, Matches, match_detections, select_images
from deeplesion.evaluation.strata import (
    INTERVAL_LABELS,
    SIZE_LABELS,
    interval_stratum,
    size_stratum,
)


@dataclass(frozen=True)
class ScoredImage:
    """One image with what was found in it and what is there.

    Attributes:
        detections: ``(n, 5)`` x1, y1, x2, y2 in px and score.
        lesions: ``(m, 4)`` x1, y1, x2, y2 in px.
        slice_interval: mm; NaN where unknown.
        long_axes: ``(m,)`` mm; NaN where unknown.
        coarse_types: Keys of :data:`COARSE_TYPES`, m of them.
    """

    detections: Floats
    lesions: Floats
    slice_interval: float
    long_axes: Sequence[float]
    coarse_types: Sequence[int]


class Figures(NamedTuple):
    """Sensitivities of a set or a stratum; NaN where it has no lesions."""

    label: str
    images: int
    lesions: int
    sensitivity: dict[float, float]
    mean: float


class FROCReport(NamedTuple):
    """All figures of a data set.

    Attributes:
        overall: The whole set.
        own: Strata of slice intervals, each as a set of its own, as papers give them.
        intervals: The same at the score thresholds of the whole set.
        sizes: Strata of long axes at the score thresholds of the whole set.
        types: Strata of coarse types, likewise.
        curves: The curve of the whole set and those of ``own``, by label.
        detections: Number of boxes.
    """

    overall: Figures
    own: dict[str, Figures]
    intervals: dict[str, Figures]
    sizes: dict[str, Figures]
    types: dict[str, Figures]
    curves: dict[str, FROCCurve]
    detections: int


def build_report(
    images: Sequence[ScoredImage],
    iou_threshold: float = 0.5,
    fps: Sequence[float] = REPORT_FPS,
    *,
    criterion: str = "iou",
    threshold: float | None = None,
    one_to_one: bool = False,
) -> FROCReport:
    """Score a data set.

    Args:
        images: The images.
        iou_threshold: Least IoU at which a box reaches a lesion.
        fps: False positives per image at which sensitivities are given.
        criterion, threshold, one_to_one: Another protocol than the official one, see
            :func:`deeplesion.evaluation.matching.match_detections`.

    Returns:
        The figures; strata without images or lesions are left out.

    Raises:
        ValueError: If a box is malformed; it names the image.
    """
    matches = match_detections(
        [image.detections for image in images],
        [image.lesions for image in images],
        iou_threshold,
        criterion=criterion,
        threshold=threshold,
        one_to_one=one_to_one,
    )
    intervals = np.array([interval_stratum(image.slice_interval) for image in images], np.str_)
    sizes = np.array([size_stratum(mm) for image in images for mm in image.long_axes], np.str_)
    types = [COARSE_TYPES.get(t, "unknown") for image in images for t in image.coarse_types]
    whole = curve_from_matches(matches)
    own, curves = _own_sets(matches, intervals, fps)
    of_lesions = intervals[matches.lesion_image]
    return FROCReport(
        overall=_figures("all", matches, whole, fps),
        own=own,
        intervals=_strata(matches, of_lesions, INTERVAL_LABELS, fps),
        sizes=_strata(matches, sizes, SIZE_LABELS, fps),
        types=_strata(
            matches, np.array(types, np.str_), {n: n for n in COARSE_TYPES.values()}, fps
        ),
        curves={"all": whole, **curves},
        detections=len(matches.scores),
    )


def flat_metrics(report: FROCReport) -> dict[str, float]:
    """``sens@0.5`` ..., ``mean`` of the whole set, ``thin_mean`` ... of the strata there are."""
    overall = report.overall
    figures = {f"sens@{fps:g}": value for fps, value in overall.sensitivity.items()}
    strata = {f"{name}_mean": row.mean for name, row in report.own.items()}
    return {**figures, "mean": overall.mean, **strata}


def format_table(report: FROCReport) -> str:
    """The main figures as lines of text: overall and by slice interval."""
    fps = list(report.overall.sensitivity)
    head = ["FPs per image", "images", "lesions", *(f"{value:g}" for value in fps), "mean"]
    rows = [head, *(_cells(figures) for figures in (report.overall, *report.own.values()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    rule = "-" * len(lines[0])
    means = ", ".join(f"{value:g}" for value in MEAN_FPS)
    notes = [f"mean: over {means} FPs per image. Slice intervals are scored as sets of their own."]
    if not report.overall.lesions:
        notes.append("There are no lesions: sensitivity is not defined.")
    return "\n".join([lines[0], rule, *lines[1:], rule, *notes])


def report_as_json(
    report: FROCReport, settings: Mapping[str, Any], extra: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What ``froc.json`` holds; a sensitivity that is not defined is null.

    Args:
        report: The report.
        settings: Of the scoring, stored along.
        extra: More figures by name, stored among ``metrics``.

    Returns:
        A dict of ``settings``, ``counts``, ``metrics`` (of :func:`flat_metrics`), ``table`` (what
        is printed), ``strata`` at the score thresholds of the whole set, and ``curves`` (the
        corners of each, see :func:`deeplesion.evaluation.froc.curve_corners`).
    """
    own = {name: {**_plain(row), "scored": "own set"} for name, row in report.own.items()}
    metrics = {**flat_metrics(report), **(extra or {})}
    return {
        "settings": {**settings, "mean_fps": MEAN_FPS, "box_width": "x2 - x1 + 1"},
        "counts": {
            "images": report.overall.images,
            "lesions": report.overall.lesions,
            "detections": report.detections,
        },
        "metrics": {name: _number(value) for name, value in metrics.items()},
        "table": {"all": _plain(report.overall), **own},
        "strata": {
            "scored": "at the score thresholds of the whole set",
            "slice_interval": {name: _plain(row) for name, row in report.intervals.items()},
            "long_axis": {name: _plain(row) for name, row in report.sizes.items()},
            "coarse_type": {name: _plain(row) for name, row in report.types.items()},
        },
        "curves": {label: _plain_curve(curve) for label, curve in report.curves.items()},
    }


def _own_sets(
    matches: Matches, intervals: np.ndarray, fps: Sequence[float]
) -> tuple[dict[str, Figures], dict[str, FROCCurve]]:
    """Figures by stratum of slice intervals, and curves by label, each as a set of its own."""
    figures, curves = {}, {}
    for name, label in INTERVAL_LABELS.items():
        if np.any(intervals == name):
            part = select_images(matches, intervals == name)
            curves[label] = curve_from_matches(part)
            figures[name] = _figures(label, part, curves[label], fps)
    return figures, curves


def _strata(
    matches: Matches, names: np.ndarray, labels: Mapping[str, str], fps: Sequence[float]
) -> dict[str, Figures]:
    """Figures of strata of lesions at the score thresholds of the whole set."""
    found = {}
    for name, label in labels.items():
        lesions: Bools = names == name
        if lesions.any():
            curve = curve_from_matches(matches, lesions)
            found[name] = _figures(label, matches, curve, fps, lesions)
    return found


def _figures(
    label: str,
    matches: Matches,
    curve: FROCCurve,
    fps: Sequence[float],
    lesions: Bools | None = None,
) -> Figures:
    chosen = matches.lesion_image if lesions is None else matches.lesion_image[lesions]
    images = matches.num_images if lesions is None else len(np.unique(chosen))
    # A curve of no boxes does not know whether there are lesions.
    defined = 1.0 if len(chosen) else math.nan
    values = defined * sensitivity_at(curve.sensitivity, curve.fps_per_image, fps)
    by_fps = dict(zip(fps, values.tolist(), strict=True))
    return Figures(label, images, len(chosen), by_fps, defined * mean_sensitivity(curve))


def _cells(figures: Figures) -> list[str]:
    values = [*figures.sensitivity.values(), figures.mean]
    shown = ["-" if math.isnan(value) else f"{value:.3f}" for value in values]
    return [figures.label, str(figures.images), str(figures.lesions), *shown]


def _plain(figures: Figures) -> dict[str, Any]:
    by_fps = {f"{fps:g}": _number(value) for fps, value in figures.sensitivity.items()}
    return {**figures._asdict(), "sensitivity": by_fps, "mean": _number(figures.mean)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain_curve(curve: FROCCurve) -> dict[str, list[float | None]]:
    corners = curve_corners(curve)._asdict()
    return {name: [_number(value) for value in values.tolist()] for name, values in corners.items()}
