"""Overlap of lesions in 3D by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.lesions.suppression import Tube, suppressed, tube_overlaps

SLICES = np.arange(10)


def tube(first: int, *boxes: list[float]) -> Tube:
    """Boxes on slices from the first on."""
    return np.arange(first, first + len(boxes)), np.array(boxes, float)


def test_nothing() -> None:
    assert suppressed([], SLICES, 0.5).tolist() == []
    assert suppressed([], np.empty(0, np.int64), 0.5).tolist() == []


def test_intersection_over_the_smaller() -> None:
    large = tube(0, *[[0, 0, 9, 9]] * 4)  # 400 voxels
    small = tube(2, *[[5, 0, 14, 4]] * 3)  # 150, of which 25 in each of 2 slices are common
    first, second, shares = tube_overlaps([large, small], SLICES)
    assert (first.tolist(), second.tolist()) == ([0], [1])
    assert shares.tolist() == pytest.approx([50 / 150])


def test_lesions_that_run_obliquely_side_by_side_do_not_overlap() -> None:
    one = tube(0, *[[10 * z, 0, 10 * z + 9, 9] for z in range(4)])
    other = tube(0, *[[10 * z + 20, 0, 10 * z + 29, 9] for z in range(4)])
    assert tube_overlaps([one, other], SLICES)[2].tolist() == []


def test_a_piece_in_the_gap_of_a_lesion_goes() -> None:
    lesion = (np.array([0, 3]), np.array([[0, 0, 9, 9], [30, 0, 39, 9]], float))
    piece = tube(1, [10, 0, 19, 9])  # where the lesion is interpolated to be
    assert tube_overlaps([lesion, piece], SLICES)[2].tolist() == pytest.approx([1])
    assert suppressed([lesion, piece], SLICES, 0.5).tolist() == [False, True]
    # Were slice 1 no key slice, nothing could have been found there.
    assert suppressed([lesion, tube(3, [10, 0, 19, 9])], SLICES, 0.5).tolist() == [False, False]


def test_what_went_makes_no_other_go() -> None:
    best = tube(0, [0, 0, 9, 9])
    middle = tube(0, [4, 0, 13, 9])  # 0.6 of it in the best
    last = tube(0, [8, 0, 17, 9])  # 0.6 in the middle, 0.2 in the best
    assert suppressed([best, middle, last], SLICES, 0.5).tolist() == [False, True, False]
    assert suppressed([middle, best, last], SLICES, 0.5).tolist() == [False, True, True]


def test_threshold_is_reached_or_not() -> None:
    pair = [tube(0, [0, 0, 9, 9]), tube(0, [5, 0, 14, 9])]
    assert suppressed(pair, SLICES, 0.5).tolist() == [False, True]
    assert suppressed(pair, SLICES, 0.51).tolist() == [False, False]
