"""Paired comparison: by hand, against unpaired draws, and how often it errs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from deeplesion.evaluation.bootstrap import ONE_PATIENT, bootstrap
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.comparison import check_same_cases, compare, p_values
from deeplesion.evaluation.matching import Matches, match_detections

HIT = [0.0, 0, 9, 9]
FAR = [50.0, 50, 59, 59]
FOUND, MISSED = [[*HIT, 0.9]], np.zeros((0, 5))


def test_by_hand() -> None:
    """The second finds one lesion of four patients more: draws hold it 0 to 4 times."""
    lesions = [[HIT]] * 4
    first = match_detections([FOUND, MISSED, MISSED, MISSED], lesions)
    second = match_detections([FOUND, FOUND, MISSED, MISSED], lesions)
    (row,) = compare({"a": first, "b": second}, [0, 1, 2, 3], replicates=999, level=0.9)
    assert (row.name, row.baseline, row.lesions, row.patients) == ("b", "a", 4, 4)
    assert row.mean.value == 0.25
    assert row.mean.low == 0.0
    assert row.mean.high in (0.5, 0.75)
    assert row.sensitivity[0.5] == row.sensitivity[16.0] == row.mean
    # It is not drawn in (3 / 4) ** 4 of all cases, and never more is lost than won.
    assert row.mean.p_value == pytest.approx(2 * 0.75**4, abs=0.1)
    (back,) = compare({"b": second, "a": first}, [0, 1, 2, 3], replicates=999, level=0.9)
    assert back.mean == (-0.25, -row.mean.high, -row.mean.low, row.mean.p_value)


def test_p_values() -> None:
    half = np.array([[-1.0], [1.0]] * 50)
    rest = np.array([[1.0]] * 97 + [[-1.0], [0.0], [np.nan]])
    assert p_values(half).tolist() == [1.0]
    assert p_values(rest).tolist() == [2 * (1 + 2) / (1 + 99)]
    assert p_values(-rest).tolist() == p_values(rest).tolist()
    assert p_values(np.zeros((10, 2))).tolist() == [1.0, 1.0]


def detector(rng: np.random.Generator, ease: np.ndarray, gain: float = 0.0) -> Matches:
    """Finds the lesion of an image with a probability of its own; 2 false positives per image."""
    detections = []
    for chance in ease:
        extra = [[*FAR, 0.5 * score] for score in rng.random(2)]
        found = rng.random() < chance + gain
        detections.append([[*HIT, 0.5 + 0.5 * rng.random()], *extra] if found else extra)
    return match_detections(detections, [[HIT]] * len(ease))


def ease_of(rng: np.random.Generator, patients: int = 50) -> tuple[np.ndarray, list[int]]:
    return np.repeat(rng.choice([0.1, 0.9], patients), 3), [i // 3 for i in range(3 * patients)]


def test_pairing_takes_out_what_patients_have_in_common() -> None:
    rng = np.random.default_rng(0)
    ease, patients = ease_of(rng)
    one, other = detector(rng, ease), detector(rng, ease)
    (row,) = compare({"one": one, "other": other}, patients, seed=3)
    single = [bootstrap(m, patients, seed=3).overall.mean for m in (one, other)]
    assert row.mean.value == pytest.approx(single[1].value - single[0].value)
    unpaired = math.hypot(*(interval.high - interval.low for interval in single))
    assert row.mean.high - row.mean.low < 0.7 * unpaired


def test_equal_detectors_seldom_differ_and_better_ones_do() -> None:
    """Of 200 pairs without a difference 5 % are called different: 1 to 11 % is chance."""
    errors, found, covered = [], [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        ease, patients = ease_of(rng)
        rows = {"first": detector(rng, ease), "equal": detector(rng, ease)}
        rows["better"] = detector(rng, ease, gain=0.1)
        equal, better = compare(rows, patients, replicates=199, seed=seed)
        errors.append(equal.mean.p_value <= 0.05)
        found.append(better.mean.p_value <= 0.05)
        covered.append(better.mean.low <= 0.1 <= better.mean.high)
    assert 0.01 <= np.mean(errors) <= 0.11
    assert np.mean(found) > 0.5
    assert 0.89 <= np.mean(covered) <= 0.99


def test_the_same_detector_twice() -> None:
    rng = np.random.default_rng(1)
    ease, patients = ease_of(rng, 5)
    one = detector(rng, ease)
    (row,) = compare({"a": one, "again": one}, patients, replicates=20)
    assert row.mean == (0.0, 0.0, 0.0, 1.0)
    assert (row.replicates, row.level, row.seed, row.note) == (20, 0.95, 0, "")


def test_strata() -> None:
    lesions = [[HIT, FAR]] * 3
    first = match_detections([MISSED] * 3, lesions)
    second = match_detections([FOUND] * 3, lesions)
    chosen = np.array([True, False] * 3)
    names = {"a": first, "b": second}
    (hit,), (far,) = (compare(names, [0, 1, 2], lesions=mask) for mask in (chosen, ~chosen))
    assert hit.mean == (1.0, 1.0, 1.0, pytest.approx(2 / 1001))
    assert far.mean == (0.0, 0.0, 0.0, 1.0)
    assert hit.lesions == 3


def test_one_patient() -> None:
    first, second = (match_detections([found], [[HIT]]) for found in (FOUND, MISSED))
    (row,) = compare({"a": first, "b": second}, ["p"])
    assert row.mean.value == -1
    assert np.isnan(row.mean[1:]).all()
    assert row.note == ONE_PATIENT


@pytest.mark.parametrize(
    ("lesions", "message"),
    [
        ([[HIT]], "'a' has 2 images and 1 lesions, 'b' 1 images and 1 lesions: match both"),
        ([[HIT], [HIT]], "'a' has 2 images and 1 lesions, 'b' 2 images and 2 lesions"),
        ([[], [HIT]], "lesion 0 is in image 0 of 'a', but in image 1 of 'b': match both against"),
    ],
)
def test_other_ground_truth_is_refused(lesions: list, message: str) -> None:
    first = match_detections([MISSED, MISSED], [[HIT], []])
    second = match_detections([MISSED] * len(lesions), lesions)
    with pytest.raises(ValueError, match=message):
        compare({"a": first, "b": second}, [0, 1])


def test_one_detector_is_no_comparison() -> None:
    with pytest.raises(ValueError, match=r"needs two detectors or more, got \['a'\]"):
        compare({"a": match_detections([], [])}, [])


def case(file_name: str, lesions: list) -> Case:
    unknown = np.full(len(lesions), np.nan)
    return Case(
        file_name=file_name,
        patient=file_name[:6],
        slice_interval=1.0,
        lesions=np.array(lesions, float).reshape(-1, 4),
        long_axes=unknown,
        short_axes=unknown,
        coarse_types=np.full(len(lesions), -1),
        heights=unknown,
        recists=np.full((len(lesions), 4, 2), np.nan),
        gender="",
        age=math.nan,
        spacing=math.nan,
        window=(-1024.0, 2050.0),
        key_slice=1,
        series=file_name[:12],
    )


def test_cases_must_be_the_same() -> None:
    one, two = case("000001_01_01_001.png", [HIT]), case("000002_01_01_001.png", [])
    check_same_cases({"a": [one, two], "b": [one, two], "c": [one, dataclasses.replace(two)]})
    with pytest.raises(ValueError, match=r"image 0 of 'a' is 000001_.*, of 'b' 000002_.*: compare"):
        check_same_cases({"a": [one, two], "b": [two, one]})
    with pytest.raises(ValueError, match=r"image 1 of 'a' is 000002_.*, of 'b' none"):
        check_same_cases({"a": [one, two], "b": [one]})
    with pytest.raises(ValueError, match=r"000001_01_01_001.png has other lesions for 'a' than"):
        check_same_cases({"a": [one], "b": [case(one.file_name, [FAR])]})
