"""Free-response ROC (FROC) of lesion detection, by the official protocol of DeepLesion, in numpy.

A box *reaches* a lesion where their boxes overlap by an intersection over union (IoU) of at least
0.5, widths counted as ``x2 - x1 + 1`` px. Boxes are taken by descending score:

* one that reaches no lesion is a false positive;
* one that reaches lesions hits those of them that no box before it has reached, one or several;
* one that reaches only lesions hit already is neither hit nor false positive.

Each box is a point of the curve: sensitivity = lesions hit / all lesions, and false positives per
image = false positives / all images. Boxes of equal score are taken from the last given to the
first, as the published scorer takes them where its sort is stable: it reverses an ascending order.
K. Yan et al., "DeepLesion", J. Med. Imaging 5(3), 2018.

Options of :func:`froc_curve` change when a box reaches a lesion and whether duplicates are false
positives. Matching (:mod:`deeplesion.evaluation.matching`) stands apart from counting
(:func:`curve_from_matches`), so that many curves, of strata or of resampled images, come from one
matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.matching import (
    MISSED,
    Bools,
    Matches,
    checked_mask,
    match_detections,
)
from deeplesion.evaluation.overlaps import Floats

#: False positives per image at which sensitivity is reported.
REPORT_FPS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
#: False positives per image over which the headline figure is the mean.
MEAN_FPS = (0.5, 1.0, 2.0, 4.0)


class FROCCurve(NamedTuple):
    """A curve of P points by descending score.

    Attributes:
        sensitivity: ``(P,)`` lesions hit / all lesions; NaN where there are no lesions.
        fps_per_image: ``(P,)`` false positives / all images, never falling.
        thresholds: ``(P,)`` score from which on boxes are counted.
    """

    sensitivity: Floats
    fps_per_image: Floats
    thresholds: Floats


def froc_curve(
    detections: Sequence[ArrayLike],
    ground_truths: Sequence[ArrayLike],
    iou_threshold: float = 0.5,
    *,
    criterion: str = "iou",
    threshold: float | None = None,
    one_to_one: bool = False,
) -> FROCCurve:
    """FROC curve of a data set.

    Args:
        detections: For each image ``(n, 5)``: x1, y1, x2, y2 in px and score. May be empty.
        ground_truths: For each image ``(m, 4)``: x1, y1, x2, y2 of its lesions. May be empty.
        iou_threshold: Least IoU at which a box reaches a lesion.
        criterion, threshold, one_to_one: Another protocol than the official one, see
            :func:`match_detections`.

    Returns:
        One point for each box; none where there are no boxes. Without lesions sensitivity is NaN.

    Raises:
        ValueError: As :func:`match_detections`.

    Example:
        >>> curve = froc_curve([[[0, 0, 9, 9, 0.9], [50, 50, 59, 59, 0.8]]], [[[0, 0, 9, 9]]])
        >>> curve.sensitivity, curve.fps_per_image
        (array([1., 1.]), array([0., 1.]))
    """
    matches = match_detections(
        detections,
        ground_truths,
        iou_threshold,
        criterion=criterion,
        threshold=threshold,
        one_to_one=one_to_one,
    )
    return curve_from_matches(matches)


def sensitivity_at(
    sensitivity: ArrayLike, fps_per_image: ArrayLike, fps: ArrayLike = REPORT_FPS
) -> Floats:
    """Sensitivity at given numbers of false positives per image, by linear interpolation.

    Where several points have the same number of false positives the last, of the highest
    sensitivity, counts; from there the curve leads to the first point of the next number. As that
    point is a false positive, which hits nothing, curves of :func:`froc_curve` are staircases.
    Before the curve's start sensitivity is 0, beyond its end it stays.

    Args:
        sensitivity: ``(P,)`` of a curve.
        fps_per_image: ``(P,)`` of a curve, never falling.
        fps: ``(K,)`` false positives per image.

    Returns:
        ``(K,)`` sensitivities; 0 for a curve of no points, NaN for one without lesions.

    Raises:
        ValueError: If the two differ in length, or ``fps_per_image`` falls.
    """
    y, x = np.asarray(sensitivity, np.float64), np.asarray(fps_per_image, np.float64)
    wanted = np.asarray(fps, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"sensitivity and fps_per_image must be (P,) alike, got {y.shape} and {x.shape}"
        )
    if not x.size:
        return np.zeros(wanted.shape)
    if (falls := np.flatnonzero(x[1:] < x[:-1])).size:
        before, after = x[falls[0]], x[falls[0] + 1]
        raise ValueError(f"fps_per_image must not fall, got {before} and then {after}")
    before = np.maximum(np.searchsorted(x, wanted, side="right") - 1, 0)
    after = np.minimum(before + 1, len(x) - 1)
    width = x[after] - x[before]
    share = np.divide(wanted - x[before], width, out=np.zeros_like(width), where=width > 0)
    start = np.nan if np.isnan(y[0]) else 0.0
    return np.where(wanted < x[0], start, y[before] + share * (y[after] - y[before]))


def mean_sensitivity(curve: FROCCurve, fps: Sequence[float] = MEAN_FPS) -> float:
    """The headline figure: mean of the sensitivities at 0.5, 1, 2 and 4 false positives per image.

    Args:
        curve: A curve.
        fps: ``(K,)`` false positives per image.

    Returns:
        The mean; see :func:`sensitivity_at`.
    """
    return float(np.mean(sensitivity_at(curve.sensitivity, curve.fps_per_image, fps)))


def curve_from_matches(matches: Matches, lesions: ArrayLike | None = None) -> FROCCurve:
    """FROC curve of matches.

    Args:
        matches: Of :func:`match_detections`.
        lesions: ``(m,)`` bool, the lesions of a stratum: sensitivity is theirs, at the score
            thresholds and false positives of the whole set. None: all.

    Returns:
        One point for each box.

    Raises:
        ValueError: If ``lesions`` is of another shape.
    """
    first_hit = matches.first_hit
    if lesions is not None:
        first_hit = first_hit[checked_mask(lesions, len(first_hit), "lesions")]
    total = len(first_hit)
    gained = np.bincount(first_hit[first_hit != MISSED], minlength=len(matches.scores))
    hits = np.cumsum(gained, dtype=np.float64)
    return FROCCurve(
        sensitivity=hits / total if total else np.full(len(hits), np.nan),
        fps_per_image=np.cumsum(matches.false_positive) / max(matches.num_images, 1),
        thresholds=matches.scores,
    )


def curve_corners(curve: FROCCurve) -> FROCCurve:
    """The points that suffice to draw or interpolate a curve exactly: for files and plots.

    Args:
        curve: Of n boxes.

    Returns:
        The same curve in at most about two points for each lesion hit.
    """
    upright, level = _steps(curve)
    moves = np.ones(len(curve.thresholds), dtype=np.bool_)
    moves[:-1] = ~(upright & level)
    curve = FROCCurve(*(values[moves] for values in curve))
    upright, level = _steps(curve)
    turns = np.ones(len(curve.thresholds), dtype=np.bool_)
    turns[1:-1] = ~((upright[:-1] & upright[1:]) | (level[:-1] & level[1:]))
    return FROCCurve(*(values[turns] for values in curve))


def _steps(curve: FROCCurve) -> tuple[Bools, Bools]:
    """Which steps between points go straight up, and which do not go up; both: nowhere."""
    x, y = curve.fps_per_image, curve.sensitivity
    return x[1:] == x[:-1], (y[1:] == y[:-1]) | np.isnan(y[1:])
