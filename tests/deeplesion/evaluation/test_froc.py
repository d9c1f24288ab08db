"""FROC curves by hand, and what must not change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.froc import (
    MEAN_FPS,
    REPORT_FPS,
    FROCCurve,
    curve_corners,
    curve_from_matches,
    froc_curve,
    mean_sensitivity,
    sensitivity_at,
)
from deeplesion.evaluation.matching import match_detections
from deeplesion.evaluation.overlaps import CRITERIA
from tests.deeplesion.evaluation.test_matching import images

HIT = [0, 0, 9, 9]
FAR = [50, 50, 59, 59]
OTHER = [20, 20, 29, 29]
PROTOCOLS = [
    {"criterion": criterion, "one_to_one": one_to_one}
    for criterion in CRITERIA
    for one_to_one in (False, True)
]


def curve_of(detections: list, ground_truths: list) -> FROCCurve:
    return froc_curve([np.array(d) for d in detections], [np.array(g) for g in ground_truths])


def test_by_hand() -> None:
    # By score: hit, false positive, the same lesion again, false positive, the other lesion.
    detections = [
        [[*HIT, 0.9], [*FAR, 0.8], [0, 0, 9, 8, 0.7]],
        [[*FAR, 0.6], [*OTHER, 0.5]],
    ]
    curve = curve_of(detections, [[HIT], [OTHER]])
    np.testing.assert_array_equal(curve.sensitivity, [0.5, 0.5, 0.5, 0.5, 1.0])
    np.testing.assert_array_equal(curve.fps_per_image, [0, 0.5, 0.5, 1.0, 1.0])
    np.testing.assert_array_equal(curve.thresholds, [0.9, 0.8, 0.7, 0.6, 0.5])
    at = sensitivity_at(curve.sensitivity, curve.fps_per_image, (0, 0.5, 0.75, 1, 16))
    np.testing.assert_array_equal(at, [0.5, 0.5, 0.5, 1.0, 1.0])
    assert mean_sensitivity(curve) == (0.5 + 1 + 1 + 1) / 4


def test_figures_that_are_reported() -> None:
    assert REPORT_FPS == (0.5, 1, 2, 4, 8, 16)
    assert MEAN_FPS == (0.5, 1, 2, 4)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (0.0, 0.0),  # before the start
        (0.9, 0.0),
        (1.0, 0.6),  # the last of three
        (1.5, 0.7),  # half way
        (2.0, 0.8),
        (100.0, 0.8),  # beyond the end
    ],
)
def test_interpolation(fps: float, expected: float) -> None:
    at = sensitivity_at([0.2, 0.4, 0.6, 0.8], [1.0, 1.0, 1.0, 2.0], (fps,))
    np.testing.assert_allclose(at, [expected], atol=1e-15)


def test_hits_count_from_where_they_are_made() -> None:
    """Half way to a false positive that is followed by a hit, that hit does not count."""
    at = sensitivity_at([0.5, 0.5, 1.0], [0.0, 1.0, 1.0], (0.5, 0.999, 1.0))
    np.testing.assert_array_equal(at, [0.5, 0.5, 1.0])


def test_empty_and_undefined() -> None:
    assert sensitivity_at([], []).tolist() == [0.0] * 6
    nothing_found = curve_of([[], []], [[HIT], []])
    assert [len(values) for values in nothing_found] == [0, 0, 0]
    assert mean_sensitivity(nothing_found) == 0
    no_lesions = curve_of([[[*FAR, 0.5]]], [[]])
    assert no_lesions.fps_per_image.tolist() == [1.0]
    assert np.isnan(no_lesions.sensitivity).all()
    # Also at 0.5, before the curve's start.
    assert np.isnan(sensitivity_at(*no_lesions[:2])).all()
    assert [len(values) for values in curve_of([], [])] == [0, 0, 0]


def test_image_without_detections_counts() -> None:
    curve = curve_of([[[*FAR, 0.5], [*HIT, 0.4]], [], [], []], [[HIT], [HIT], [], []])
    np.testing.assert_array_equal(curve.fps_per_image, [0.25, 0.25])
    np.testing.assert_array_equal(curve.sensitivity, [0, 0.5])


def test_of_equal_scores_the_last_given_counts_first() -> None:
    first = curve_of([[[*FAR, 0.5], [*HIT, 0.5]]], [[HIT]])
    second = curve_of([[[*HIT, 0.5], [*FAR, 0.5]]], [[HIT]])
    assert first.fps_per_image.tolist() == [0, 1]
    assert second.fps_per_image.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("sensitivity", "fps", "message"),
    [
        ([0.1, 0.2], [1.0], r"must be \(P,\) alike, got \(2,\) and \(1,\)"),
        ([0.1, 0.2], [1.0, 0.5], "fps_per_image must not fall, got 1.0 and then 0.5"),
    ],
)
def test_curves_that_are_none(sensitivity: list, fps: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sensitivity_at(sensitivity, fps)


def split(data: list[tuple[list, list]]) -> tuple[list, list]:
    return [d for d, _ in data], [g for _, g in data]


@settings(max_examples=100, deadline=None)
@given(data=images, protocol=st.sampled_from(PROTOCOLS))
def test_a_monotone_map_of_scores_changes_nothing(
    data: list[tuple[list, list]], protocol: dict[str, Any]
) -> None:
    detections, lesions = split(data)
    mapped = [[[*d[:4], 3 * np.log(d[4]) - 7] for d in found] for found in detections]
    for got, wanted in zip(
        froc_curve(mapped, lesions, **protocol)[:2],
        froc_curve(detections, lesions, **protocol)[:2],
        strict=True,
    ):
        np.testing.assert_array_equal(got, wanted)


@settings(max_examples=100, deadline=None)
@given(data=images, seed=st.integers(0, 1000), protocol=st.sampled_from(PROTOCOLS))
def test_the_order_of_images_and_boxes_does_not_matter(
    data: list[tuple[list, list]], seed: int, protocol: dict[str, Any]
) -> None:
    rng, one_to_one = np.random.default_rng(seed), protocol["one_to_one"]
    scores = iter(rng.permutation(100))  # no ties
    data = [([[*d[:4], next(scores)] for d in found], there) for found, there in data]
    shuffled = [
        (
            [found[i] for i in rng.permutation(len(found))],
            # One to one, of lesions overlapped alike the one given first is taken.
            [there[i] for i in rng.permutation(len(there))] if not one_to_one else there,
        )
        for found, there in (data[i] for i in rng.permutation(len(data)))
    ]
    for got, wanted in zip(
        froc_curve(*split(shuffled), **protocol), froc_curve(*split(data), **protocol), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)


@settings(max_examples=100, deadline=None)
@given(data=images, score=st.floats(0, 1), protocol=st.sampled_from(PROTOCOLS))
def test_a_false_positive_more_never_raises_sensitivity(
    data: list[tuple[list, list]], score: float, protocol: dict[str, Any]
) -> None:
    detections, lesions = split(data)
    before = sensitivity_at(*froc_curve(detections, lesions, **protocol)[:2])
    detections[0] = [*detections[0], [900, 900, 910, 910, score]]
    after = sensitivity_at(*froc_curve(detections, lesions, **protocol)[:2])
    assert np.all((after <= before + 1e-12) | np.isnan(before) | np.isnan(after))


@settings(max_examples=100, deadline=None)
@given(data=images)
def test_curves_rise_and_corners_suffice(data: list[tuple[list, list]]) -> None:
    curve = froc_curve(*split(data))
    assert np.all(np.diff(curve.fps_per_image) >= 0)
    assert np.all(np.diff(curve.thresholds) <= 0)
    corners = curve_corners(curve)
    assert len(corners.thresholds) <= 2 * sum(len(g) for _, g in data) + 2
    points = list(zip(*curve[:2], strict=True))
    assert np.isnan(curve.sensitivity).any() or set(zip(*corners[:2], strict=True)) <= set(points)
    fps = np.linspace(0, 7, 71)
    np.testing.assert_allclose(
        sensitivity_at(corners.sensitivity, corners.fps_per_image, fps),
        sensitivity_at(curve.sensitivity, curve.fps_per_image, fps),
        atol=1e-12,
    )


def test_strata_are_counted_at_the_thresholds_of_the_whole_set() -> None:
    detections = [[[*HIT, 0.9], [*FAR, 0.8], [*OTHER, 0.7]]]
    matches = match_detections(detections, [[HIT, OTHER]])
    small, large = (curve_from_matches(matches, chosen) for chosen in np.eye(2, dtype=bool))
    # The hit on the one is no false positive of the other.
    for curve in (small, large):
        np.testing.assert_array_equal(curve.fps_per_image, [0, 1, 1])
    np.testing.assert_array_equal(small.sensitivity, [1, 1, 1])
    np.testing.assert_array_equal(large.sensitivity, [0, 0, 1])


@settings(max_examples=50, deadline=None)
@given(data=images, seed=st.integers(0, 1000))
def test_strata_add_up_to_the_whole(data: list[tuple[list, list]], seed: int) -> None:
    matches = match_detections(*split(data))
    labels = np.random.default_rng(seed).choice(["a", "b", "c"], len(matches.first_hit))
    if not len(labels):
        return
    parts = [
        np.mean(labels == name) * curve_from_matches(matches, labels == name).sensitivity
        for name in np.unique(labels)
    ]
    np.testing.assert_allclose(sum(parts), curve_from_matches(matches).sensitivity, atol=1e-12)


def test_strata_must_fit() -> None:
    matches = match_detections([[]], [[HIT, OTHER]])
    with pytest.raises(ValueError, match=r"lesions must be bool \(2,\), got int64 \(2,\)"):
        curve_from_matches(matches, [0, 1])


def test_protocols_differ_as_they_should() -> None:
    # A box around the lesion, one within it, one that fits, another that fits, and one elsewhere.
    found = [[-20, -20, 29, 29, 0.9], [3, 3, 4, 4, 0.8], [*HIT, 0.7], [*HIT, 0.6], [*FAR, 0.5]]

    def false_positives(**protocol: Any) -> list[float]:
        return froc_curve([found], [[HIT]], **protocol).fps_per_image.tolist()

    assert false_positives() == [1, 2, 2, 2, 3]
    assert false_positives(one_to_one=True) == [1, 2, 2, 3, 4]
    assert false_positives(criterion="iobb", threshold=0.3) == [1, 1, 1, 1, 2]
    assert false_positives(criterion="center") == [0, 0, 0, 0, 1]
    assert false_positives(criterion="center", one_to_one=True) == [0, 1, 2, 3, 4]


def test_scores_in_half_precision_and_boxes_as_integers() -> None:
    boxes = [np.array([[*HIT, 1], [*FAR, 0]], dtype=np.int32), np.array([[*HIT, 0.5]], np.float16)]
    curve = froc_curve(boxes, [np.array([HIT]), np.array([HIT], np.int64)])
    np.testing.assert_array_equal(curve.sensitivity, [0.5, 1, 1])
