"""Comparison of detectors on the same ground truth by a paired bootstrap over patients, in numpy.

All detectors are evaluated in the same draws of patients
(:mod:`deeplesion.evaluation.bootstrap`), so that what makes a draw easy or hard for all of them
cancels out of their difference.

The two-sided p-value of a difference is twice the smaller of the shares of replicates in which it
is <= 0 and >= 0, each counted as ``(1 + count) / (1 + replicates)``, and at most 1. It is the
bootstrap's: it asks at which level the percentile interval would begin to hold 0. It is never below
``2 / (1 + replicates)``, it is approximate where patients are few, and it is not corrected for the
number of operating points and detectors looked at. A. Davison and D. Hinkley, "Bootstrap Methods
and their Application", 1997, chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.bootstrap import (
    LEVEL,
    REPLICATES,
    SEED,
    check_settings,
    evaluate,
    no_interval,
    percentile_interval,
)
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.froc import MEAN_FPS, REPORT_FPS
from deeplesion.evaluation.matching import Bools, Floats, Ints, Matches, checked_mask
from deeplesion.evaluation.resampling import Resampler, checked_grid, patient_indices


class Difference(NamedTuple):
    """A difference of two sensitivities with its interval; NaN where there is none."""

    value: float
    low: float
    high: float
    p_value: float


class Comparison(NamedTuple):
    """One detector against another, on a set or a stratum of its lesions.

    Attributes:
        name: The detector.
        baseline: The one that its figures are compared with: differences are ``name - baseline``.
        lesions: Lesions.
        patients: Patients that have one of them.
        sensitivity: By false positives per image.
        mean: Of the mean sensitivities.
        replicates: Number of draws.
        level: Of the intervals.
        seed: Of numpy's default generator.
        note: Why there is no interval; empty where there is one.
    """

    name: str
    baseline: str
    lesions: int
    patients: int
    sensitivity: dict[float, Difference]
    mean: Difference
    replicates: int
    level: float
    seed: int
    note: str


def compare(
    matches: Mapping[str, Matches],
    patients: Sequence[object],
    *,
    lesions: ArrayLike | None = None,
    fps: Sequence[float] = REPORT_FPS,
    mean_fps: Sequence[float] = MEAN_FPS,
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = SEED,
) -> list[Comparison]:
    """Compare each detector with the first one.

    Args:
        matches: By the name of the detector, all on the same images and lesions in the same order;
            :func:`check_same_cases` compares what matches do not tell.
        patients: The patient of each image, anything hashable.
        lesions: ``(m,)`` bool, a stratum at the score thresholds of the whole set; None: all.
        fps: False positives per image at which sensitivities are compared.
        mean_fps: Those over which the mean is taken.
        replicates: Number of draws.
        level: Of the percentile intervals, between 0 and 1.
        seed: The same seed gives the same draws as in
            :func:`deeplesion.evaluation.bootstrap.bootstrap`.

    Returns:
        A comparison for each detector but the first. Where there are no lesions, or they are of
        one patient alone, intervals and p-values are NaN and ``note`` says why.

    Raises:
        ValueError: If there are less than two detectors, they are on different images or lesions,
            or as :func:`deeplesion.evaluation.bootstrap.bootstrap`.
    """
    names = list(matches)
    if len(names) < 2:
        raise ValueError(f"a comparison needs two detectors or more, got {names}")
    first = matches[names[0]]
    for name in names[1:]:
        _check_same_truth(names[0], first, name, matches[name])
    grid = checked_grid(fps, mean_fps)
    check_settings(first, patients, replicates, level)
    total = len(first.first_hit)
    mask = np.ones(total, np.bool_) if lesions is None else checked_mask(lesions, total, "lesions")
    index, number = patient_indices(patients)
    samplers = [Resampler(m, index, number, grid.columns, [mask]) for m in matches.values()]
    values, drawn = evaluate(samplers, number, replicates, seed)
    # Each detector gives the whole set and the stratum.
    values, drawn = grid.figures(values[1::2]), grid.figures(drawn[1::2])
    counts = _counts(first, index, mask)
    note = no_interval(*counts)
    comparisons = []
    for name, own, own_drawn in zip(names[1:], values[1:], drawn[1:], strict=True):
        kept = slice(0) if note else slice(None)
        figures = _differences(own - values[0], (own_drawn - drawn[0])[kept], level)
        by_fps = dict(zip(grid.fps, figures, strict=False))
        row = Comparison(
            name, names[0], *counts, by_fps, figures[-1], replicates, level, seed, note
        )
        comparisons.append(row)
    return comparisons


def p_values(differences: Floats) -> Floats:
    """Two-sided p-values of no difference, see the module.

    Args:
        differences: ``(B, K)`` of replicates; those that are NaN are left out.

    Returns:
        ``(K,)`` in (0, 1].

    Example:
        >>> p_values(np.array([[1.0]] * 999)).tolist()
        [0.002]
    """
    defined = differences[~np.isnan(differences).any(axis=1)]
    below = 1 + (defined <= 0).sum(axis=0)
    above = 1 + (defined >= 0).sum(axis=0)
    return np.minimum(1.0, 2 * np.minimum(below, above) / (1 + len(defined)))


def check_same_cases(cases: Mapping[str, Sequence[Case]]) -> None:
    """Refuse lists of cases that are not the same images with the same lesions, in one order.

    Args:
        cases: By the name of the detector.

    Raises:
        ValueError: If two differ; it names the first image that does.
    """
    names = list(cases)
    for name in names[1:]:
        first, second = cases[names[0]], cases[name]
        for position in range(max(len(first), len(second))):
            one, other = (part[position : position + 1] for part in (first, second))
            if [case.file_name for case in one] != [case.file_name for case in other]:
                shown = [[case.file_name for case in part] or ["none"] for part in (one, other)]
                raise ValueError(
                    f"image {position} of {names[0]!r} is {shown[0][0]}, of {name!r} "
                    f"{shown[1][0]}: compare predictions for one list of images"
                )
            if not np.array_equal(one[0].lesions, other[0].lesions):
                raise ValueError(
                    f"{one[0].file_name} has other lesions for {names[0]!r} than for {name!r}: "
                    "compare predictions against one ground truth"
                )


def _check_same_truth(first_name: str, first: Matches, name: str, other: Matches) -> None:
    shown = [f"{m.num_images} images and {len(m.first_hit)} lesions" for m in (first, other)]
    if shown[0] != shown[1]:
        difference = f"{first_name!r} has {shown[0]}, {name!r} {shown[1]}"
    elif (wrong := np.flatnonzero(first.lesion_image != other.lesion_image)).size:
        images = [int(m.lesion_image[wrong[0]]) for m in (first, other)]
        difference = (
            f"lesion {wrong[0]} is in image {images[0]} of {first_name!r}, "
            f"but in image {images[1]} of {name!r}"
        )
    else:
        return
    raise ValueError(f"{difference}: match both against the same ground truth")


def _counts(matches: Matches, index: Ints, lesions: Bools) -> tuple[int, int]:
    return int(lesions.sum()), len(np.unique(index[matches.lesion_image[lesions]]))


def _differences(values: Floats, drawn: Floats, level: float) -> list[Difference]:
    """Of each figure; without replicates there is neither interval nor p-value."""
    low, high = percentile_interval(drawn, level)
    chances = np.where(np.isnan(low), math.nan, p_values(drawn))
    columns = (part.tolist() for part in (values, low, high, chances))
    return [Difference(*column) for column in zip(*columns, strict=True)]
