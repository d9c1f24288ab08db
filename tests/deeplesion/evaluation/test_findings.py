"""Which misses and false positives come first."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.evaluation.findings import crop_around, top_false_positives, worst_misses
from tests.deeplesion.evaluation.report_material import case_of, method_of

A, B, C = [0, 0, 9, 9], [20, 0, 29, 9], [0, 30, 9, 39]
FAR = [30, 30, 39, 39]
CASES = [
    case_of(0, [A, B], long_axes=np.array([5.0, 20.0])),
    case_of(1, []),
    case_of(2, [A, B, C], long_axes=np.array([np.nan, 6.0, 30.0])),
]
METHOD = method_of(
    "m",
    CASES,
    [
        [[*FAR, 0.8], [*A, 0.05], [*FAR, 0.9]],
        [[*A, 0.95]],
        [[*C, 0.7], [20, 0, 29, 3, 0.6]],
    ],
)


def test_misses_never_found_come_first_then_low_scores() -> None:
    found = worst_misses(CASES, METHOD)
    assert [(miss.case, miss.lesion) for miss in found] == [(0, 1), (2, 0), (2, 1), (0, 0), (2, 2)]
    np.testing.assert_array_equal([miss.score for miss in found], [np.nan] * 3 + [0.05, 0.7])
    np.testing.assert_allclose([miss.overlap for miss in found], [0, 0, 0.4, 1, 1])
    np.testing.assert_array_equal(found[2].box, B)
    assert {miss.kind for miss in found} == {"miss"}
    assert [miss.lesion for miss in worst_misses(CASES, METHOD, count=2)] == [1, 0]


def test_an_unknown_long_axis_is_the_longer_side_of_the_box() -> None:
    """9 px of 0.8 mm are 7.2 mm: between the lesions of 20 and 6 mm."""
    first, second, third = worst_misses(CASES, METHOD, count=3)
    assert (first.lesion, second.lesion, third.lesion) == (1, 0, 1)
    nowhere = [case_of(0, [A, [0, 0, 30, 5]], long_axes=np.full(2, np.nan), spacing=np.nan)]
    assert worst_misses(nowhere, method_of("m", nowhere, [[]]))[0].lesion == 1


def test_false_positives_by_score_one_for_each_slice() -> None:
    found = top_false_positives(CASES, METHOD)
    assert [(item.case, item.score) for item in found] == [(1, 0.95), (0, 0.9), (2, 0.6)]
    np.testing.assert_allclose([item.overlap for item in found], [0, 0, 0.4])
    np.testing.assert_array_equal(found[2].box, [20, 0, 29, 3])
    assert len(top_false_positives(CASES, METHOD, count=1)) == 1


def test_nothing_to_find() -> None:
    cases = [case_of(0, [])]
    assert worst_misses(cases, method_of("m", cases, [[]])) == []
    assert top_false_positives(cases, method_of("m", cases, [[]])) == []
    assert worst_misses([], method_of("m", [], [])) == []


@pytest.mark.parametrize(
    ("box", "size", "crop"),
    [
        ([240, 240, 269, 269], (512, 512), (170, 170, 341, 341)),  # a third of the slice
        ([200, 200, 299, 259], (512, 512), (100, 80, 400, 380)),  # three times its side
        ([0, 500, 9, 511], (512, 512), (0, 341, 171, 512)),  # moved into the slice
        ([0, 0, 47, 63], (64, 48), (0, 0, 48, 64)),  # as large as it
    ],
)
def test_crops(box: list[float], size: tuple[int, int], crop: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = found = crop_around(np.array(box, float), size)
    assert np.abs(np.array(found) - crop).max() <= 1
    assert 0 <= x1 < x2 <= size[1]
    assert 0 <= y1 < y2 <= size[0]
