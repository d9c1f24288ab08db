"""Matching against a plain loop over boxes, and its checks of what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.matching import (
    MISSED,
    match_detections,
    paired_iou,
    select_images,
)

# Small coordinates and few scores: overlaps at exactly 0.5, duplicates and ties abound.
corner = st.integers(0, 6)
box = st.tuples(corner, corner, corner, corner).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)
scored_box = st.tuples(box, st.sampled_from([0.1, 0.2, 0.5, 0.9])).map(lambda p: [*p[0], p[1]])
images = st.lists(
    st.tuples(st.lists(scored_box, max_size=6), st.lists(box, max_size=4)), min_size=1, max_size=5
)


def iou_of(first: list[float], second: list[float]) -> float:
    """IoU with the +1 convention, for two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    shared = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (first, second)]
    return shared / (sum(areas) - shared)


def by_loops(
    data: list[tuple[list, list]], iou_threshold: float
) -> tuple[list[float], list[bool], list[int]]:
    """Scores, false positives and the lesions' first hits, box after box as the protocol says."""
    boxes = [(image, b) for image, (found, _) in enumerate(data) for b in found]
    boxes = sorted(boxes, key=lambda item: item[1][4])[::-1]  # stable, then reversed
    lesions = [(image, lesion) for image, (_, there) in enumerate(data) for lesion in there]
    first_hit = [MISSED] * len(lesions)
    false_positive = []
    for rank, (image, candidate) in enumerate(boxes):
        reached = [
            index
            for index, (of, lesion) in enumerate(lesions)
            if of == image and iou_of(candidate[:4], lesion) >= iou_threshold
        ]
        false_positive.append(not reached)
        for index in reached:
            if first_hit[index] == MISSED:
                first_hit[index] = rank
    return [b[4] for _, b in boxes], false_positive, first_hit


@settings(max_examples=300, deadline=None)
@given(data=images, iou_threshold=st.sampled_from([0.25, 0.5, 1.0]))
def test_equals_a_loop_over_boxes(data: list[tuple[list, list]], iou_threshold: float) -> None:
    matches = match_detections([d for d, _ in data], [g for _, g in data], iou_threshold)
    scores, false_positive, first_hit = by_loops(data, iou_threshold)
    assert matches.scores.tolist() == scores
    assert matches.false_positive.tolist() == false_positive
    assert matches.first_hit.tolist() == first_hit
    assert matches.num_images == len(data)
    assert matches.lesion_image.tolist() == [i for i, (_, g) in enumerate(data) for _ in g]


@settings(max_examples=100, deadline=None)
@given(data=images, chosen=st.lists(st.booleans(), min_size=5, max_size=5))
def test_selected_images_are_as_if_matched_alone(
    data: list[tuple[list, list]], chosen: list[bool]
) -> None:
    mask = np.array(chosen[: len(data)])
    whole = match_detections([d for d, _ in data], [g for _, g in data])
    part = [item for item, kept in zip(data, mask, strict=True) if kept]
    alone = match_detections([d for d, _ in part], [g for _, g in part])
    for got, wanted in zip(select_images(whole, mask), alone, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 9, 9], [0, 0, 9, 9], 1.0),
        ([0, 0, 9, 9], [0, 0, 9, 4], 0.5),
        ([0, 0, 4, 4], [0, 0, 4, 1.5], 0.5),
        ([0, 0, 9, 9], [9, 9, 18, 18], 1 / 199),  # one pixel in common
        ([0, 0, 9, 9], [10, 0, 19, 9], 0.0),  # side by side
        ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),  # a single pixel
    ],
)
def test_iou_counts_both_end_pixels(
    first: list[float], second: list[float], expected: float
) -> None:
    np.testing.assert_array_equal(paired_iou([first], [second]), [expected])
    np.testing.assert_array_equal(paired_iou([second], [first]), [expected])


def test_boxes_reach_lesions_of_their_own_image_only() -> None:
    matches = match_detections([[[0, 0, 9, 9, 0.9]], []], [[], [[0, 0, 9, 9]]])
    assert matches.false_positive.tolist() == [True]
    assert matches.first_hit.tolist() == [MISSED]


@pytest.mark.parametrize("box", [[9, 0, 0, 9], [9, 9, 0, 0], [5, 0, 4, 9]])
def test_a_box_that_is_inside_out_reaches_nothing(box: list[int]) -> None:
    matches = match_detections([[[*box, 0.9]]], [[[0, 0, 9, 9], [4, 0, 5, 9], [5, 0, 5, 9]]])
    assert matches.false_positive.tolist() == [True]
    assert matches.first_hit.tolist() == [MISSED] * 3


def test_a_box_less_than_a_pixel_inside_out_is_that_narrow() -> None:
    np.testing.assert_allclose(paired_iou([[5, 0, 4.5, 9]], [[5, 0, 5, 9]]), [0.5])
    np.testing.assert_allclose(paired_iou([[5, 0, 4.25, 9]], [[5, 0, 5, 9]]), [0.25])


@pytest.mark.parametrize("empty", [[], np.zeros((0, 5)), np.zeros(0)])
def test_empty_arrays_of_any_kind(empty: object) -> None:
    matches = match_detections([empty], [np.zeros((0, 4), np.float32)])
    assert matches.scores.shape == (0,)
    assert matches.first_hit.shape == (0,)


def test_input_is_not_changed() -> None:
    boxes = np.array([[0.0, 0, 9, 9, 0.1], [0, 0, 9, 9, 0.9]])
    before = boxes.copy()
    match_detections([boxes], [boxes[:, :4]])
    np.testing.assert_array_equal(boxes, before)


GOOD = [0, 0, 9, 9, 0.5]


@pytest.mark.parametrize(
    ("detections", "ground_truths", "message"),
    [
        ([[GOOD]], [[], []], "one array per image each, got 1 and 2"),
        ([[], [GOOD[:4]]], [[], []], r"detections of image 1 must be \(n, 5\), got \(1, 4\)"),
        ([[], GOOD], [[], []], r"detections of image 1 must be \(n, 5\), got \(5,\)"),
        ([[]], [[GOOD]], r"ground_truths of image 0 must be \(n, 4\), got \(1, 5\)"),
        (
            [[GOOD], [], [GOOD, [0, 0, 9, 9, np.nan]]],
            [[], [], []],
            r"detections of image 2: score must not be NaN, got \[0.0, 0.0, 9.0, 9.0, nan\]",
        ),
        ([[GOOD], [[0, 0, np.inf, 9, 0.5]]], [[], []], "image 1: box must be finite, got .*inf"),
        ([[]], [[[9, 0, 0, 9]]], r"ground_truths of image 0: box must have x1 <= x2 .* got \[9.0"),
        ([[]], [[[0, 9, 9, 0]]], "ground_truths of image 0: box must have .* y1 <= y2, got"),
    ],
)
def test_bad_input_is_named(detections: list, ground_truths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_detections(detections, ground_truths)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, np.nan])
def test_bad_iou_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"iou_threshold must be in \(0, 1\], got"):
        match_detections([], [], threshold)


def test_selection_must_fit() -> None:
    matches = match_detections([[GOOD]], [[]])
    with pytest.raises(ValueError, match=r"images must be bool \(1,\), got int64 \(2,\)"):
        select_images(matches, np.array([0, 1]))
