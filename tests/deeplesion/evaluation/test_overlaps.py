"""Overlap criteria by hand, in 2D and 3D, and what holds of all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.evaluation.overlaps import (
    CRITERIA,
    check_criterion,
    describe_rule,
    paired_center,
    paired_iobb,
    paired_iou,
    paired_overlap,
)

PAIRS = [
    ([0, 0, 9, 9], [0, 0, 9, 9], 1.0),
    ([0, 0, 9, 9], [0, 0, 9, 4], 0.5),
    ([0, 0, 4, 4], [0, 0, 4, 1.5], 0.5),
    ([0, 0, 9, 9], [9, 9, 18, 18], 1 / 199),  # one pixel in common
    ([0, 0, 9, 9], [10, 0, 19, 9], 0.0),  # side by side
    ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),  # a single pixel
]
INSIDE_OUT = [[9, 0, 0, 9], [9, 9, 0, 0], [5, 0, 4, 9]]
# Corners and sides of boxes of three axes.
corner = st.lists(st.integers(-8, 8), min_size=3, max_size=3)
side = st.lists(st.integers(0, 10), min_size=3, max_size=3)
boxes = st.tuples(corner, side).map(lambda b: [*b[0], *(c + s for c, s in zip(*b, strict=True))])


def pixels(box: list[int]) -> set[tuple[int, ...]]:
    """All pixels of a 3D box, counted one by one."""
    ranges = [range(box[k], box[k + 3] + 1) for k in range(3)]
    return {(x, y, z) for x in ranges[0] for y in ranges[1] for z in ranges[2]}


@pytest.mark.parametrize(("first", "second", "expected"), PAIRS)
def test_iou_counts_both_end_pixels(
    first: list[float], second: list[float], expected: float
) -> None:
    np.testing.assert_array_equal(paired_iou([first], [second]), [expected])
    np.testing.assert_array_equal(paired_iou([second], [first]), [expected])


def test_a_box_less_than_a_pixel_inside_out_is_that_narrow() -> None:
    np.testing.assert_allclose(paired_iou([[5, 0, 4.5, 9]], [[5, 0, 5, 9]]), [0.5])
    np.testing.assert_allclose(paired_iou([[5, 0, 4.25, 9]], [[5, 0, 5, 9]]), [0.25])


@pytest.mark.parametrize(
    ("box", "lesion", "expected"),
    [
        ([2, 2, 3, 3], [0, 0, 9, 9], 1.0),  # within the lesion
        ([0, 0, 9, 9], [2, 2, 3, 3], 0.04),  # around it
        ([0, 0, 9, 9], [5, 0, 30, 9], 0.5),
        ([0, 0, 9, 9], [10, 0, 19, 9], 0.0),
    ],
)
def test_iobb_is_the_share_of_the_detected_box(
    box: list[float], lesion: list[float], expected: float
) -> None:
    np.testing.assert_allclose(paired_iobb([box], [lesion]), [expected])


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ([0, 0, 8, 8], False),  # center 4, a pixel left of the lesion's first
        ([1, 1, 8, 8], True),  # 4.5, the outer edge of pixel 5
        ([0.9, 1, 8, 8], False),  # 4.45
        ([0, 0, 19, 19], True),  # 9.5, the outer edge of pixel 9
        ([0, 0, 19, 19.2], False),
        ([7, 7, 7, 7], True),
        ([-100, -100, 114, 114], True),  # however large
    ],
)
def test_centers_lie_in_whole_pixels_of_the_lesion(box: list[float], inside: bool) -> None:
    assert paired_center([box], [[5, 5, 9, 9]]).tolist() == [inside]


def test_center_is_looked_for_on_every_axis() -> None:
    lesion = [0, 0, 0, 9, 9, 9]
    found = [[4, 4, 4, 5, 5, 5], [4, 4, 14, 5, 5, 15], [14, 4, 4, 15, 5, 5], [4, 14, 4, 5, 15, 5]]
    assert paired_center(found, [lesion] * 4).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("box", INSIDE_OUT)
def test_boxes_inside_out_overlap_nothing(criterion: str, box: list[float]) -> None:
    lesions = [[0, 0, 9, 9], [4, 0, 5, 9], [5, 0, 5, 9]]
    assert paired_overlap(criterion, [box] * 3, lesions).tolist() == [0, 0, 0]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("axes", [2, 3])
def test_no_pairs_have_no_overlaps(criterion: str, axes: int) -> None:
    none = np.zeros((0, 2 * axes))
    assert paired_overlap(criterion, none, none).shape == (0,)


@settings(max_examples=200, deadline=None)
@given(box=boxes, lesion=boxes)
def test_3d_overlaps_are_those_of_pixels_counted(box: list[int], lesion: list[int]) -> None:
    first, second = pixels(box), pixels(lesion)
    shared = len(first & second)
    np.testing.assert_allclose(paired_iou([box], [lesion]), [shared / len(first | second)])
    np.testing.assert_allclose(paired_iobb([box], [lesion]), [shared / len(first)])


@settings(max_examples=100, deadline=None)
@given(box=boxes, lesion=boxes)
def test_what_holds_of_every_pair(box: list[int], lesion: list[int]) -> None:
    iou, iobb, center = (paired_overlap(name, [box], [lesion])[0] for name in CRITERIA)
    assert 0 <= iou <= iobb <= 1
    assert center in (0, 1)
    # A third axis on which both are alike changes nothing.
    flat = [[*b[:2], 3, *b[3:5], 3] for b in (box, lesion)]
    plane = [[*b[:2], *b[3:5]] for b in (box, lesion)]
    for name in CRITERIA:
        in_3d, in_2d = (paired_overlap(name, [a], [b]) for a, b in (flat, plane))
        np.testing.assert_allclose(in_3d, in_2d)


def test_rules_in_words() -> None:
    assert describe_rule("iou", 0.5, False) == "IoU >= 0.5"
    assert describe_rule("iobb", 0.3, True) == "IoBB >= 0.3, one to one"
    assert describe_rule("center", 0.5, False) == "center in box"


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, np.nan])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"least must be in \(0, 1\], got"):
        check_criterion("iou", threshold, "least")


def test_unknown_criterion() -> None:
    with pytest.raises(ValueError, match="criterion must be one of iou, iobb, center, got 'giou'"):
        check_criterion("giou", 0.5)
