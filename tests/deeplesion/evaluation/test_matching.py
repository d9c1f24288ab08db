"""Matching against plain loops over boxes, and its checks of what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.matching import MISSED, Matches, match_detections, select_images
from deeplesion.evaluation.overlaps import CRITERIA, paired_overlap

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
    given = zip(matches.image, matches.box, matches.scores, strict=True)
    assert all(data[image][0][number][4] == score for image, number, score in given)
    assert len(set(zip(matches.image, matches.box, strict=True))) == len(scores)


def one_to_one_by_loops(
    data: list[tuple[list, list]], criterion: str, threshold: float
) -> tuple[list[bool], list[int]]:
    """False positives and the lesions' takers: each box chooses when its turn comes."""
    boxes = [(image, b) for image, (found, _) in enumerate(data) for b in found]
    boxes = sorted(boxes, key=lambda item: item[1][4])[::-1]
    lesions = [(image, lesion) for image, (_, there) in enumerate(data) for lesion in there]
    taker = [MISSED] * len(lesions)
    for rank, (image, candidate) in enumerate(boxes):
        best = None
        for index, (of, lesion) in enumerate(lesions):
            by, iou = (
                paired_overlap(name, [candidate[:4]], [lesion])[0] for name in (criterion, "iou")
            )
            left = of == image and taker[index] == MISSED and by >= threshold
            if left and (best is None or (by, iou) > best[:2]):
                best = (by, iou, index)
        if best is not None:
            taker[best[2]] = rank
    return [rank not in taker for rank in range(len(boxes))], taker


@settings(max_examples=200, deadline=None)
@given(
    data=images,
    criterion=st.sampled_from(list(CRITERIA)),
    threshold=st.sampled_from([0.1, 0.25, 0.5]),
)
def test_one_to_one_equals_a_loop_over_boxes(
    data: list[tuple[list, list]], criterion: str, threshold: float
) -> None:
    detections, lesions = [d for d, _ in data], [g for _, g in data]
    matches = match_detections(
        detections, lesions, criterion=criterion, threshold=threshold, one_to_one=True
    )
    false_positive, taker = one_to_one_by_loops(data, criterion, threshold)
    assert matches.false_positive.tolist() == false_positive
    assert matches.first_hit.tolist() == taker


def hits_after_each_box(matches: Matches) -> np.ndarray:
    """Lesions hit by the boxes up to each."""
    first = matches.first_hit[matches.first_hit != MISSED]
    return np.cumsum(np.bincount(first, minlength=len(matches.scores)))


@settings(max_examples=200, deadline=None)
@given(data=images, criterion=st.sampled_from(list(CRITERIA)))
def test_one_to_one_never_hits_more(data: list[tuple[list, list]], criterion: str) -> None:
    given = [d for d, _ in data], [g for _, g in data]
    many = match_detections(*given, 0.25, criterion=criterion)
    one = match_detections(*given, 0.25, criterion=criterion, one_to_one=True)
    assert np.all(hits_after_each_box(one) <= hits_after_each_box(many))
    assert np.all(one.false_positive >= many.false_positive)
    # Every box takes a lesion or is a false positive.
    assert np.sum(one.first_hit != MISSED) == np.sum(~one.false_positive)


@settings(max_examples=100, deadline=None)
@given(data=images)
def test_a_looser_criterion_never_hits_less(data: list[tuple[list, list]]) -> None:
    given = [d for d, _ in data], [g for _, g in data]
    strict = match_detections(*given, criterion="iou")
    loose = match_detections(*given, criterion="iobb")
    assert np.all(hits_after_each_box(strict) <= hits_after_each_box(loose))
    assert np.all(loose.false_positive <= strict.false_positive)


WIDE = [0, 0, 9, 9]


def test_a_duplicate_is_a_false_positive_one_to_one_only() -> None:
    given = [[[*WIDE, 0.9], [0, 0, 9, 8, 0.8]]], [[WIDE]]
    assert match_detections(*given).false_positive.tolist() == [False, False]
    strict = match_detections(*given, one_to_one=True)
    assert strict.false_positive.tolist() == [False, True]
    assert strict.first_hit.tolist() == [0]


def test_a_box_over_two_lesions_takes_the_one_it_overlaps_more() -> None:
    halves = [[0, 0, 9, 3], [0, 0, 9, 5]]  # IoU 0.4 and 0.6
    given = [[[*WIDE, 0.9], [*WIDE, 0.8], [*WIDE, 0.7]]], [halves]
    assert match_detections(*given, 0.4).first_hit.tolist() == [0, 0]
    strict = match_detections(*given, 0.4, one_to_one=True)
    assert strict.first_hit.tolist() == [1, 0]
    assert strict.false_positive.tolist() == [False, False, True]


def test_a_box_that_comes_first_chooses_though_another_fits_better() -> None:
    # The first reaches both; the second fits the lesion that the first takes perfectly.
    strict = match_detections(
        [[[0, 0, 9, 8, 0.9], [*WIDE, 0.8]]], [[WIDE, [0, 0, 9, 5]]], one_to_one=True
    )
    assert strict.first_hit.tolist() == [0, 1]


def test_where_the_center_is_in_two_lesions_the_higher_iou_decides() -> None:
    given = [[[2, 2, 7, 7, 0.9]]], [[[0, 0, 30, 30], WIDE]]
    both = match_detections(*given, criterion="center")
    assert both.first_hit.tolist() == [0, 0]
    one = match_detections(*given, criterion="center", one_to_one=True)
    assert one.first_hit.tolist() == [MISSED, 0]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [("iou", [MISSED, MISSED]), ("iobb", [1, MISSED]), ("center", [1, 0])],
)
def test_criteria_differ(criterion: str, expected: list[int]) -> None:
    # A large box around a small lesion and a small one within a large lesion.
    detections = [[[0, 0, 99, 99, 0.9], [210, 210, 214, 214, 0.8]]]
    lesions = [[[200, 200, 299, 299], [48, 48, 52, 52]]]
    matches = match_detections(detections, lesions, criterion=criterion, threshold=0.3)
    assert matches.first_hit.tolist() == expected


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


def test_boxes_reach_lesions_of_their_own_image_only() -> None:
    matches = match_detections([[[0, 0, 9, 9, 0.9]], []], [[], [[0, 0, 9, 9]]])
    assert matches.false_positive.tolist() == [True]
    assert matches.first_hit.tolist() == [MISSED]


@pytest.mark.parametrize("box", [[9, 0, 0, 9], [9, 9, 0, 0], [5, 0, 4, 9]])
def test_a_box_that_is_inside_out_reaches_nothing(box: list[int]) -> None:
    matches = match_detections([[[*box, 0.9]]], [[[0, 0, 9, 9], [4, 0, 5, 9], [5, 0, 5, 9]]])
    assert matches.false_positive.tolist() == [True]
    assert matches.first_hit.tolist() == [MISSED] * 3


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


def test_threshold_is_named_as_it_was_given() -> None:
    with pytest.raises(ValueError, match=r"^threshold must be in \(0, 1\], got 2"):
        match_detections([], [], 0.5, criterion="iobb", threshold=2)
    with pytest.raises(ValueError, match="criterion must be one of iou, iobb, center, got 'dice'"):
        match_detections([], [], criterion="dice")


@settings(max_examples=50, deadline=None)
@given(scores=st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, np.inf, -np.inf]), max_size=60))
def test_order_is_that_of_a_stable_sort_reversed(scores: list[float]) -> None:
    matches = match_detections([[[*WIDE, score] for score in scores]], [[]])
    assert matches.box.tolist() == sorted(range(len(scores)), key=scores.__getitem__)[::-1]


def test_selection_must_fit() -> None:
    matches = match_detections([[GOOD]], [[]])
    with pytest.raises(ValueError, match=r"images must be bool \(1,\), got int64 \(2,\)"):
        select_images(matches, np.array([0, 1]))
