"""Intervals: by hand, against draws made one by one, and their coverage of the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deeplesion.evaluation.bootstrap import (
    BAND_FPS,
    NO_LESIONS,
    ONE_PATIENT,
    bootstrap,
    percentile_interval,
)
from deeplesion.evaluation.froc import curve_from_matches, mean_sensitivity, sensitivity_at
from deeplesion.evaluation.matching import Matches, match_detections, select_images
from tests.deeplesion.evaluation.test_resampling import many

HIT = [0, 0, 9, 9]
FAR = [50, 50, 59, 59]
OTHER = [20, 20, 29, 29]


def test_two_patients_by_hand() -> None:
    """One patient is found, the other not: draws give 0, 0.5 and 1 by 1 : 2 : 1."""
    matches = match_detections([[[*HIT, 0.9]], []], [[HIT], [HIT]])
    result = bootstrap(matches, ["a", "b"], replicates=400, level=0.4)
    assert result.overall.mean == (0.5, 0.5, 0.5)
    wide = bootstrap(matches, ["a", "b"], replicates=400, level=0.9).overall
    assert wide.mean == (0.5, 0.0, 1.0)
    assert wide.sensitivity[16.0] == (0.5, 0.0, 1.0)
    assert wide[:3] == (2, 2, 2)
    assert (wide.defined, wide.note) == (400, "")


def test_slices_of_a_patient_stay_together() -> None:
    """Four slices of each of two patients: sensitivity is 0, 0.5 or 1, as if there were one."""
    found, missed = [[*HIT, 0.9]], np.zeros((0, 5))
    matches = match_detections([found] * 4 + [missed] * 4, [[HIT]] * 8)
    together = bootstrap(matches, [0] * 4 + [1] * 4, level=0.9)
    apart = bootstrap(matches, list(range(8)), level=0.9)
    assert together.overall.mean[1:] == (0.0, 1.0)
    assert 0.0 < apart.overall.mean.low < apart.overall.mean.high < 1.0


def test_figures_are_those_of_the_curve() -> None:
    matches, index, number = many()
    stratum = np.arange(len(matches.first_hit)) % 3 == 0
    own = np.arange(matches.num_images) % 2 == 0
    result = bootstrap(
        matches,
        index.tolist(),
        lesion_strata=[stratum, ~stratum],
        image_strata=[own],
        band_fps=BAND_FPS,
        replicates=50,
    )
    parts = [
        (result.overall, curve_from_matches(matches)),
        (result.strata[0], curve_from_matches(matches, stratum)),
        (result.strata[1], curve_from_matches(matches, ~stratum)),
        (result.own[0], curve_from_matches(select_images(matches, own))),
    ]
    for figures, curve in parts:
        wanted = sensitivity_at(curve.sensitivity, curve.fps_per_image)
        assert [interval.value for interval in figures.sensitivity.values()] == wanted.tolist()
        assert figures.mean.value == mean_sensitivity(curve)
        band = figures.band
        assert band is not None
        on_grid = sensitivity_at(curve.sensitivity, curve.fps_per_image, BAND_FPS)
        np.testing.assert_array_equal(band.sensitivity, on_grid)
        assert np.all(band.low <= band.high)
        assert figures.mean.low <= figures.mean.value <= figures.mean.high
        # The grid has 0.5 among its points.
        at = BAND_FPS.index(0.5)
        assert (band.low[at], band.high[at]) == figures.sensitivity[0.5][1:]
    assert (result.patients, result.replicates, result.seed, result.level) == (number, 50, 0, 0.95)
    assert result.own[0].images == 30
    assert result.strata[0].lesions + result.strata[1].lesions == result.overall.lesions == 120


def test_the_seed_decides() -> None:
    matches, index, _ = many()
    first, again, other = (
        bootstrap(matches, index.tolist(), replicates=30, seed=seed) for seed in (5, 5, 6)
    )
    assert first == again
    assert first.overall.mean != other.overall.mean
    assert (first.seed, other.seed) == (5, 6)


def test_a_stratum_has_the_same_draws_whatever_is_beside_it() -> None:
    matches, index, _ = many()
    stratum = np.arange(len(matches.first_hit)) < 30
    alone = bootstrap(matches, index.tolist(), lesion_strata=[stratum], replicates=20)
    beside = bootstrap(matches, index.tolist(), lesion_strata=[~stratum, stratum], replicates=20)
    assert alone.strata[0] == beside.strata[1]


@pytest.mark.parametrize("patients", [["a", "a"], ["a", "b"]])
def test_one_patient_has_no_interval(patients: list[str]) -> None:
    """Also where a second one has no lesion."""
    matches = match_detections([[[*HIT, 0.9]], [[*FAR, 0.8]]], [[HIT, OTHER], []])
    overall = bootstrap(matches, patients, band_fps=(1,)).overall
    assert overall.mean.value == 0.5
    assert math.isnan(overall.mean.low)
    assert math.isnan(overall.mean.high)
    assert overall.note == ONE_PATIENT
    assert overall.band is not None
    assert np.isnan(overall.band.low).all()


def test_no_lesions() -> None:
    matches = match_detections([[[*HIT, 0.9]], []], [[], []])
    overall = bootstrap(matches, ["a", "b"]).overall
    assert np.isnan(overall.mean).all()
    assert np.isnan(list(overall.sensitivity.values())).all()
    assert (overall.note, overall.lesions, overall.defined) == (NO_LESIONS, 0, 0)
    empty = bootstrap(match_detections([], []), []).overall
    assert (empty.images, empty.note) == (0, NO_LESIONS)


def test_replicates_without_lesions_of_a_stratum_are_left_out() -> None:
    matches = match_detections([[[*HIT, 0.9]], [[*FAR, 0.8]], []], [[HIT], [HIT], []])
    chosen = np.array([True, False, False])
    result = bootstrap(matches, [0, 1, 2], image_strata=[chosen], replicates=1000)
    # Drawn is each of three with 1 - (2 / 3) ** 3, either of two with 1 - (1 / 3) ** 3.
    assert result.own[0].defined == pytest.approx(1000 * 19 / 27, abs=60)
    assert result.overall.defined == pytest.approx(1000 * 26 / 27, abs=30)
    assert result.own[0].note == ONE_PATIENT
    assert not math.isnan(result.overall.mean.low)


def test_percentiles() -> None:
    samples = np.append(np.linspace(0, 1, 101), np.nan)[:, None]
    low, high = percentile_interval(samples, 0.9)
    np.testing.assert_allclose([low[0], high[0]], [0.05, 0.95])
    assert np.isnan(percentile_interval(samples[-1:], 0.9)).all()


def simulated(rng: np.random.Generator, patients: int = 60) -> tuple[Matches, list[int]]:
    """Patients of two slices with a lesion each, found easily in half of them, hardly in others.

    Scores of false positives are uniform, those of hits ``u ** (1 / ease)``, so that the
    sensitivity at a threshold t is 1 - t ** ease; there are 4 false positives per slice on average.
    """
    ease = np.repeat(rng.choice([0.5, 3.0], patients), 2)
    detections = []
    for hardness, extra in zip(ease, rng.poisson(4, len(ease)), strict=True):
        hit = [*HIT, rng.random() ** (1 / hardness)]
        detections.append([hit, *([*FAR, score] for score in rng.random(extra))])
    matches = match_detections(detections, [[HIT]] * len(ease))
    return matches, [i // 2 for i in range(len(ease))]


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """200 data sets: between 89 and 99 % is what chance leaves of 95 % in 999 cases of 1000."""
    fps = (0.5, 1.0, 2.0)
    truth = {f: np.mean([1 - (1 - f / 4) ** ease for ease in (0.5, 3.0)]) for f in fps}
    truth_of_mean = np.mean(list(truth.values()))
    covered = []
    for seed in range(200):
        matches, patients = simulated(np.random.default_rng(seed))
        overall = bootstrap(
            matches, patients, fps=fps, mean_fps=fps, replicates=200, seed=seed
        ).overall
        rows = [(overall.sensitivity[f], truth[f]) for f in fps] + [(overall.mean, truth_of_mean)]
        covered.append([interval.low <= true <= interval.high for interval, true in rows])
    share = np.mean(covered, axis=0)
    assert np.all((share >= 0.89) & (share <= 0.99)), share


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patients": [1]}, "patients must name one for each of 2 images, got 1"),
        ({"replicates": 0}, "replicates must be 1 or more, got 0"),
        ({"level": 95}, "level must be between 0 and 1, such as 0.95, got 95"),
        ({"fps": (1, -1)}, "false positives per image must be >= 0 and finite, got -1.0"),
        ({"band_fps": (math.inf,)}, "must be >= 0 and finite, got inf"),
        ({"mean_fps": ()}, "mean_fps must have at least one"),
        ({"lesion_strata": [[True]]}, r"lesion_strata must be bool \(2,\), got bool \(1,\)"),
        ({"image_strata": [[1, 0]]}, r"image_strata must be bool \(2,\), got int64 \(2,\)"),
    ],
)
def test_bad_settings_are_named(changes: dict, message: str) -> None:
    matches = match_detections([[], []], [[HIT], [HIT]])
    with pytest.raises(ValueError, match=message):
        bootstrap(matches, **{"patients": [1, 2], **changes})
