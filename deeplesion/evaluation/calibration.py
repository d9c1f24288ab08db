"""Reliability of scores: how often a box of some score lies on a lesion, in numpy.

A box counts as right if it reaches a lesion, also one that a box before it has reached: FROC counts
such a repeat neither as hit nor as false positive, and that it is one says nothing on whether its
score is honest. Repeats can be left out instead.

Bins hold equal numbers of boxes. The expected calibration error is the mean over boxes of
``|mean score - share right|`` of their bin: C. Guo et al., "On Calibration of Modern Neural
Networks", ICML 2017 (with bins of equal width). Intervals are those of a bootstrap over patients
(:mod:`deeplesion.evaluation.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deeplesion.evaluation.bootstrap import (
    LEVEL,
    REPLICATES,
    SEED,
    check_settings,
    percentile_interval,
)
from deeplesion.evaluation.matching import MISSED, Bools, Floats, Ints, Matches
from deeplesion.evaluation.resampling import patient_indices, patient_weights

BINS = 10


class Reliability(NamedTuple):
    """Scores against what they are worth, in K bins from low to high scores.

    Attributes:
        score: ``(K,)`` mean score.
        share: ``(K,)`` share of boxes on a lesion.
        low: ``(K,)`` lower end of the interval of ``share``; NaN if all boxes of the bin are of one
            patient.
        high: ``(K,)`` upper end.
        boxes: ``(K,)`` number of boxes.
        error: Expected calibration error; NaN without boxes, and where a score is outside 0 to 1,
            which is no probability. It has no interval: that of a draw is larger than that of the
            set, because chance only adds to it.
        repeats: Whether boxes on a lesion that a box before has reached are counted.
        replicates: Number of draws.
        level: Of the intervals.
        seed: Of numpy's default generator.
    """

    score: Floats
    share: Floats
    low: Floats
    high: Floats
    boxes: Ints
    error: float
    repeats: bool
    replicates: int
    level: float
    seed: int


def reliability(
    matches: Matches,
    patients: Sequence[object],
    *,
    bins: int = BINS,
    repeats: bool = True,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Reliability:
    """Reliability of the scores of a detector.

    Args:
        matches: Of :func:`deeplesion.evaluation.matching.match_detections`.
        patients: The patient of each image, anything hashable.
        bins: Most bins; less where boxes are few, or many have the same score, for boxes of one
            score are not parted.
        repeats: Whether to count boxes on a lesion that a box before has reached, as right; False
            leaves them out.
        replicates: Number of draws.
        level: Of the percentile intervals, between 0 and 1.
        seed: The same seed gives the same intervals.

    Returns:
        The bins; none where there are no boxes.

    Raises:
        ValueError: If ``bins`` is less than 1, or as
            :func:`deeplesion.evaluation.bootstrap.bootstrap`.
    """
    check_settings(matches, patients, replicates, level)
    if bins < 1:
        raise ValueError(f"bins must be 1 or more, got {bins}")
    index, number = patient_indices(patients)
    kept = np.ones(len(matches.scores), np.bool_) if repeats else ~repeated(matches)
    # Boxes are by descending score; bins are from low to high.
    scores, right = matches.scores[kept][::-1], ~matches.false_positive[kept][::-1]
    patient = index[matches.image[kept]][::-1]
    of_bin = _equal_bins(scores, bins)
    size = int(of_bin[-1]) + 1 if len(of_bin) else 0
    count = np.bincount(of_bin, minlength=size)
    mean = np.bincount(of_bin, scores, size) / count
    share = np.bincount(of_bin, right, size) / count
    total, hits = np.zeros((number, size)), np.zeros((number, size))
    np.add.at(total, (patient, of_bin), 1)
    np.add.at(hits, (patient, of_bin), right)
    low, high = _intervals(total, hits, replicates, level, seed)
    proper = len(scores) > 0 and scores[0] >= 0 and scores[-1] <= 1
    error = float(np.sum(count * np.abs(mean - share)) / count.sum()) if proper else np.nan
    return Reliability(mean, share, low, high, count, error, repeats, replicates, level, seed)


def repeated(matches: Matches) -> Bools:
    """Boxes that reach only lesions which a box before them has reached.

    Args:
        matches: Of :func:`deeplesion.evaluation.matching.match_detections`.

    Returns:
        ``(n,)`` neither false positives nor the first on any lesion.
    """
    first = np.zeros(len(matches.scores), np.bool_)
    first[matches.first_hit[matches.first_hit != MISSED]] = True
    return ~matches.false_positive & ~first


def _equal_bins(scores: Floats, bins: int) -> Ints:
    """``(n,)`` bin of each of rising scores, equal ones in one bin, numbered without gaps."""
    if not len(scores):
        return np.empty(0, np.int64)
    # A bin begins where its first score begins.
    first = scores[np.arange(bins) * len(scores) // bins]
    starts = np.unique(np.searchsorted(scores, first))
    return np.searchsorted(starts, np.arange(len(scores)), side="right") - 1


def _intervals(
    boxes: Floats, hits: Floats, replicates: int, level: float, seed: int
) -> tuple[Floats, Floats]:
    """``(K,)`` ends of the share in each bin; ``boxes`` and ``hits`` are ``(P, K)``."""
    parts = []
    for weights in patient_weights(len(boxes), replicates, seed):
        total = weights @ boxes
        undefined = np.full(total.shape, np.nan)
        parts.append(np.divide(weights @ hits, total, out=undefined, where=total > 0))
    drawn = np.concatenate(parts)
    drawn[:, (boxes > 0).sum(axis=0) < 2] = np.nan
    # A bin is undefined in draws of its own, so each is taken alone.
    ends = [percentile_interval(drawn[:, [k]], level) for k in range(drawn.shape[1])]
    low, high = (np.array([end[side][0] for end in ends]) for side in (0, 1))
    return low, high
