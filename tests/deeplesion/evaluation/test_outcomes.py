"""What became of boxes and lesions."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.evaluation.outcomes import (
    best_overlaps,
    box_kinds,
    check_method,
    found_scores,
)
from tests.deeplesion.evaluation.report_material import (
    case_of,
    method_of,
    random_cases,
    random_method,
)

HIT, NEAR, FAR = [0, 0, 9, 9], [0, 0, 9, 8], [30, 30, 39, 39]
CASES = [case_of(0, [HIT, FAR]), case_of(1, []), case_of(2, [HIT])]
METHOD = method_of("m", CASES, [[[*NEAR, 0.4], [*HIT, 0.9]], [[*FAR, 0.7]], [[*FAR, 0.4]]])


def test_kinds_of_boxes() -> None:
    assert box_kinds(METHOD) == [["duplicate", "hit"], ["false positive"], ["false positive"]]


def test_found_scores() -> None:
    np.testing.assert_array_equal(found_scores(METHOD.matches), [0.9, np.nan, np.nan])


def test_best_overlaps() -> None:
    np.testing.assert_allclose(best_overlaps(METHOD, CASES), [1, 0, 0])
    near = method_of("n", CASES, [[[*NEAR, 0.1]], [], []])
    np.testing.assert_allclose(best_overlaps(near, CASES), [0.9, 0, 0])


def test_nothing_at_all() -> None:
    nothing = method_of("m", [], [])
    assert box_kinds(nothing) == []
    assert best_overlaps(nothing, []).shape == found_scores(nothing.matches).shape == (0,)
    empty = method_of("m", CASES, [[], [], []])
    assert box_kinds(empty) == [[], [], []]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8])
def test_what_became_of_a_box_does_not_change_with_the_threshold(threshold: float) -> None:
    cases = random_cases(30)
    method = random_method("m", cases, 3)
    kept = [rows[rows[:, 4] >= threshold] for rows in method.detections]
    wanted = [
        [kind for kind, row in zip(kinds, rows, strict=True) if row[4] >= threshold]
        for kinds, rows in zip(box_kinds(method), method.detections, strict=True)
    ]
    assert box_kinds(method_of("m", cases, kept)) == wanted


def test_a_method_of_other_cases_is_refused() -> None:
    check_method(METHOD, CASES)
    with pytest.raises(ValueError, match="m: detections must be 2, as in cases, got 3"):
        check_method(METHOD, CASES[:2])
    with pytest.raises(ValueError, match="m: lesions in matches must be 2, as in cases, got 3"):
        check_method(METHOD, [CASES[0], CASES[1], CASES[1]])
    more = METHOD._replace(detections=[*METHOD.detections[:2], np.zeros((2, 5))])
    with pytest.raises(ValueError, match="m: boxes in matches must be 5, as in cases, got 4"):
        check_method(more, CASES)
