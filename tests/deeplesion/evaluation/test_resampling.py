"""Weighted sensitivities against data sets that are actually drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation import resampling
from deeplesion.evaluation.froc import curve_from_matches, sensitivity_at
from deeplesion.evaluation.matching import Floats, Ints, Matches, match_detections, select_images
from deeplesion.evaluation.resampling import Resampler, patient_indices, patient_weights

# Small coordinates: overlaps at exactly 0.5, duplicates and boxes on two lesions abound.
corner = st.integers(0, 6)
box = st.tuples(corner, corner, corner, corner).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)
images = st.lists(
    st.tuples(st.lists(box, max_size=6), st.lists(box, max_size=4)), min_size=1, max_size=5
)
FPS = (0.0, 0.1, 1 / 3, 0.5, 1.0, 2.0, 4.0)


def with_distinct_scores(data: list[tuple[list, list]], seed: int) -> list[tuple[list, list]]:
    scores = iter(np.random.default_rng(seed).permutation(100))
    return [([[*d, float(next(scores))] for d in found], there) for found, there in data]


def match(data: list[tuple[list, list]], one_to_one: bool = False) -> Matches:
    detections, lesions = [d for d, _ in data], [g for _, g in data]
    return match_detections(detections, lesions, one_to_one=one_to_one)


def sensitivity_of(matches: Matches, lesions: np.ndarray | None = None) -> Floats:
    """By the curve; NaN without lesions, which a curve of no boxes does not know."""
    count = len(matches.first_hit) if lesions is None else int(lesions.sum())
    curve = curve_from_matches(matches, lesions)
    values = sensitivity_at(curve.sensitivity, curve.fps_per_image, FPS)
    return values if count else np.full(len(FPS), np.nan)


def repeated(per_lesion: np.ndarray, matches: Matches, drawn: list[int]) -> np.ndarray:
    """What belongs to lesions, in the order of the lesions of the drawn images."""
    rows = [np.flatnonzero(matches.lesion_image == i) for i in drawn]
    return per_lesion[np.concatenate([np.empty(0, np.int64), *rows])]


@settings(max_examples=200, deadline=None)
@given(
    data=images,
    patients=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    counts=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
    one_to_one=st.booleans(),
)
def test_a_replicate_is_the_data_set_that_is_drawn(
    data: list[tuple[list, list]],
    patients: list[int],
    counts: list[int],
    seed: int,
    one_to_one: bool,
) -> None:
    data = with_distinct_scores(data, seed)
    matches = match(data, one_to_one)
    index, number = patient_indices(patients[: len(data)])
    weights = np.array([counts[:number]])
    rng = np.random.default_rng(seed)
    stratum = rng.random(len(matches.first_hit)) < 0.5
    drawn = [i for i in range(len(data)) for _ in range(counts[index[i]])]
    drawn = rng.permutation(drawn).astype(int).tolist()
    got = Resampler(matches, index, number, FPS, [stratum]).sensitivities(weights)
    whole = match([data[i] for i in drawn], one_to_one)
    np.testing.assert_array_equal(got[0, 0], sensitivity_of(whole))
    np.testing.assert_array_equal(
        got[1, 0], sensitivity_of(whole, repeated(stratum, matches, drawn))
    )


@settings(max_examples=100, deadline=None)
@given(data=images, chosen=st.lists(st.booleans(), min_size=5, max_size=5))
def test_images_as_a_set_of_their_own(data: list[tuple[list, list]], chosen: list[bool]) -> None:
    mask = np.array(chosen[: len(data)])
    part = select_images(match(with_distinct_scores(data, 0)), mask)
    index = np.arange(len(data))
    got = Resampler(part, index[mask], len(data), FPS).sensitivities(np.ones((1, len(data)), int))
    np.testing.assert_array_equal(got[0, 0], sensitivity_of(part))


def many(seed: int = 0) -> tuple[Matches, Ints, int]:
    """Enough boxes for several blocks."""
    rng = np.random.default_rng(seed)
    boxes = rng.integers(0, 40, (60, 30, 2))
    detections = [np.column_stack([xy, xy + 9, rng.random(len(xy))]).astype(float) for xy in boxes]
    lesions = [np.column_stack([xy, xy + 9]) for xy in rng.integers(0, 40, (60, 2, 2))]
    index, number = patient_indices([i // 3 for i in range(60)])
    return match_detections(detections, lesions), index, number


def test_blocks_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matches, index, number = many()
    weights = np.concatenate(list(patient_weights(number, 50, 1)))
    strata = [np.arange(len(matches.first_hit)) % 2 == 0]
    wanted = Resampler(matches, index, number, FPS, strata).sensitivities(weights)
    for block, chunk in ((1, 1), (7, 300), (10_000, 10**6)):
        monkeypatch.setattr(resampling, "MIN_BLOCK", block)
        monkeypatch.setattr(resampling, "CHUNK_VALUES", chunk)
        again = np.concatenate(list(patient_weights(number, 50, 1)))
        np.testing.assert_array_equal(again, weights)
        got = Resampler(matches, index, number, FPS, strata).sensitivities(weights)
        np.testing.assert_array_equal(got, wanted)
    ones = Resampler(matches, index, number, FPS).sensitivities(np.ones((1, number), int))
    np.testing.assert_array_equal(ones[0, 0], sensitivity_of(matches))


def test_limits_are_those_of_quotients() -> None:
    """0.1 * 30 is 3.0000000000000004 - 4e-16, and 3 / 30 is 0.1: rounding must not drop one."""
    images_there = np.arange(1.0, 2000)
    fps = np.array([0.1, 0.3, 0.7, 1 / 3, 0.29])
    limits = resampling._limits(images_there, fps)
    assert np.all(limits / images_there[:, None] <= fps)
    assert np.all((limits + 1) / images_there[:, None] > fps)


def test_weights_draw_as_many_patients_as_there_are() -> None:
    weights = np.concatenate(list(patient_weights(20, 500, 3)))
    assert weights.shape == (500, 20)
    assert set(weights.sum(axis=1)) == {20}
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.2)
    assert not np.array_equal(weights, np.concatenate(list(patient_weights(20, 500, 4))))


def test_patients_are_numbered_by_their_first_image() -> None:
    index, number = patient_indices(["b", "a", "b", "c"])
    assert (index.tolist(), number) == ([0, 1, 0, 2], 3)
    assert patient_indices([])[1] == 0


def test_nothing_at_all() -> None:
    resampler = Resampler(match([]), np.zeros(0, int), 0, FPS)
    weights = np.concatenate(list(patient_weights(0, 5, 0)))
    assert np.isnan(resampler.sensitivities(weights)).all()
    assert resampler.sensitivities(np.zeros((0, 0), int)).shape == (1, 0, len(FPS))


def test_shapes_must_fit() -> None:
    matches = match([([], [[0, 0, 9, 9]])])
    with pytest.raises(ValueError, match=r"one index for each of 1 images, got \(2,\)"):
        Resampler(matches, np.zeros(2, int), 1, FPS)
    with pytest.raises(ValueError, match=r"strata must be bool \(1,\), got bool \(2,\)"):
        Resampler(matches, np.zeros(1, int), 1, FPS, [np.ones(2, bool)])
