"""Intervals of FROC figures by a bootstrap over patients, in numpy.

Slices of a patient resemble each other, so the patient, not the slice, is drawn: as many patients
as there are, with replacement, each with all of its images. All figures of a replicate, of the
whole set and of every stratum, come from the same draw. An interval is that between percentiles
of the replicates. B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13;
for clustered detection data C. M. Rutter, "Bootstrap estimation of diagnostic accuracy with
patient-clustered data", Academic Radiology 7(6), 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.froc import MEAN_FPS, REPORT_FPS
from deeplesion.evaluation.matching import Bools, Floats, Ints, Matches, checked_mask, select_images
from deeplesion.evaluation.resampling import (
    Grid,
    Resampler,
    checked_grid,
    patient_indices,
    patient_weights,
)

REPLICATES = 1000
LEVEL = 0.95
SEED = 0
#: False positives per image at which a plot has its band: eight to an octave from 1/8 to 16.
BAND_FPS = tuple((2.0 ** np.linspace(-3, 4, 57)).tolist())
NO_LESIONS = "no lesions: sensitivity is not defined"
ONE_PATIENT = "lesions of one patient alone: there is no interval"


class Interval(NamedTuple):
    """A figure with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """A curve with its interval at each of K numbers of false positives per image.

    Attributes:
        fps: ``(K,)`` false positives per image.
        sensitivity: ``(K,)`` of the set itself.
        low: ``(K,)`` lower end.
        high: ``(K,)`` upper end. Each is an interval of its own: no statement on whole curves.
    """

    fps: Floats
    sensitivity: Floats
    low: Floats
    high: Floats


class SetFigures(NamedTuple):
    """Figures of a set of images, or of a stratum of its lesions.

    Attributes:
        images: Images: of the set; of a stratum of lesions those that have one.
        lesions: Lesions.
        patients: Patients that have a lesion of these.
        sensitivity: By false positives per image.
        mean: Mean sensitivity, the headline figure.
        band: For plots; None where none was asked for.
        defined: Replicates in which there are lesions: the interval is of these.
        note: Why there is no interval; empty where there is one.
    """

    images: int
    lesions: int
    patients: int
    sensitivity: dict[float, Interval]
    mean: Interval
    band: Band | None
    defined: int
    note: str


class BootstrapResult(NamedTuple):
    """Figures of a set and its strata, all from the same draws.

    Attributes:
        overall: The whole set.
        strata: Strata of lesions at the score thresholds of the whole set, as given.
        own: Strata of images as sets of their own, as given.
        patients: Number of patients that are drawn.
        replicates: Number of draws.
        level: Of the intervals.
        seed: Of numpy's default generator.
        mean_fps: False positives per image over which the mean is taken.
    """

    overall: SetFigures
    strata: list[SetFigures]
    own: list[SetFigures]
    patients: int
    replicates: int
    level: float
    seed: int
    mean_fps: tuple[float, ...]


def bootstrap(
    matches: Matches,
    patients: Sequence[object],
    *,
    lesion_strata: Sequence[ArrayLike] = (),
    image_strata: Sequence[ArrayLike] = (),
    fps: Sequence[float] = REPORT_FPS,
    mean_fps: Sequence[float] = MEAN_FPS,
    band_fps: Sequence[float] = (),
    replicates: int = REPLICATES,
    level: float = LEVEL,
    seed: int = SEED,
) -> BootstrapResult:
    """Figures with intervals for a set and its strata.

    Args:
        matches: Of :func:`deeplesion.evaluation.matching.match_detections`.
        patients: The patient of each image, anything hashable.
        lesion_strata: Each ``(m,)`` bool; counted at the score thresholds of the whole set.
        image_strata: Each ``(num_images,)`` bool; each a set of its own.
        fps: False positives per image at which sensitivities are given.
        mean_fps: Those over which the mean is taken.
        band_fps: Those of the band for plots, such as :data:`BAND_FPS`; none: no band.
        replicates: Number of draws.
        level: Of the percentile intervals, between 0 and 1.
        seed: The same seed gives the same intervals.

    Returns:
        The figures. Where there are no lesions, or they are of one patient alone, intervals are
        NaN and ``note`` says why.

    Raises:
        ValueError: If patients are not one for each image, a mask is of another shape,
            ``replicates`` is less than 1, ``level`` is not between 0 and 1, or a number of false
            positives is negative or not finite.
    """
    grid = checked_grid(fps, mean_fps, band_fps)
    check_settings(matches, patients, replicates, level)
    index, number = patient_indices(patients)
    masks = [checked_mask(m, len(matches.first_hit), "lesion_strata") for m in lesion_strata]
    own = [checked_mask(m, matches.num_images, "image_strata") for m in image_strata]
    samplers = [
        Resampler(matches, index, number, grid.columns, masks),
        *(Resampler(select_images(matches, m), index[m], number, grid.columns) for m in own),
    ]
    values, drawn = evaluate(samplers, number, replicates, seed)
    figures = [
        _figures(_counts(matches, index, *chosen), grid, level, grid.figures(v), grid.figures(d))
        for chosen, v, d in zip(_sets(matches, masks, own), values, drawn, strict=True)
    ]
    first_own = 1 + len(masks)
    parts = figures[0], figures[1:first_own], figures[first_own:]
    return BootstrapResult(*parts, number, replicates, level, seed, grid.mean_fps)


def evaluate(
    samplers: Sequence[Resampler], patients: int, replicates: int, seed: int
) -> tuple[Floats, Floats]:
    """Sensitivities of sets as they are, and in the same draws of patients.

    Args:
        samplers: Each of one set of images with its strata.
        patients: Number of patients.
        replicates: B.
        seed: Of the draws.

    Returns:
        ``(sets, K)`` as they are and ``(sets, B, K)`` drawn, the sets of the first sampler first.
    """
    once = np.ones((1, patients), np.int64)
    values = np.concatenate([sampler.sensitivities(once)[:, 0] for sampler in samplers])
    drawn = [
        np.concatenate([sampler.sensitivities(weights) for sampler in samplers])
        for weights in patient_weights(patients, replicates, seed)
    ]
    return values, np.concatenate(drawn, axis=1)


def percentile_interval(samples: Floats, level: float) -> tuple[Floats, Floats]:
    """Lower and upper percentiles of replicates.

    Args:
        samples: ``(B, K)``; replicates that are NaN are left out.
        level: Between 0 and 1.

    Returns:
        ``(K,)`` each; NaN where every replicate is.
    """
    defined = samples[~np.isnan(samples).any(axis=1)]
    if not len(defined):
        return np.full(samples.shape[1], np.nan), np.full(samples.shape[1], np.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def check_settings(
    matches: Matches, patients: Sequence[object], replicates: int, level: float
) -> None:
    """ValueError if patients are not one for each image, or a setting is out of its range."""
    if len(patients) != matches.num_images:
        raise ValueError(
            f"patients must name one for each of {matches.num_images} images, got {len(patients)}"
        )
    if replicates < 1:
        raise ValueError(f"replicates must be 1 or more, got {replicates}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, such as 0.95, got {level}")


def no_interval(lesions: int, patients: int) -> str:
    """Why there is no interval for that many lesions of that many patients; empty: there is."""
    if not lesions:
        return NO_LESIONS
    return ONE_PATIENT if patients < 2 else ""


class _Counts(NamedTuple):
    images: int
    lesions: int
    patients: int


def _sets(
    matches: Matches, strata: Sequence[Bools], own: Sequence[Bools]
) -> list[tuple[Bools, Bools | None]]:
    """Lesions of the whole set, of strata and of images alone; images, but of strata of lesions."""
    everything = np.ones(len(matches.first_hit), np.bool_), np.ones(matches.num_images, np.bool_)
    alone = [(mask[matches.lesion_image], mask) for mask in own]
    return [everything, *((mask, None) for mask in strata), *alone]


def _counts(matches: Matches, index: Ints, lesions: Bools, images: Bools | None) -> _Counts:
    with_one = np.unique(matches.lesion_image[lesions])
    return _Counts(
        images=len(with_one) if images is None else int(images.sum()),
        lesions=int(lesions.sum()),
        patients=len(np.unique(index[with_one])),
    )


def _figures(
    counts: _Counts, grid: Grid, level: float, values: Floats, drawn: Floats
) -> SetFigures:
    note = no_interval(counts.lesions, counts.patients)
    low, high = percentile_interval(drawn[:0] if note else drawn, level)
    columns = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    intervals = [Interval(*column) for column in columns]
    end = len(grid.fps) + 1
    band = Band(np.array(grid.band_fps), values[end:], low[end:], high[end:])
    return SetFigures(
        *counts,
        sensitivity=dict(zip(grid.fps, intervals, strict=False)),
        mean=intervals[len(grid.fps)],
        band=band if grid.band_fps else None,
        defined=int((~np.isnan(drawn[:, 0])).sum()),
        note=note,
    )
