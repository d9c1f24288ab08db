"""Parts of the report's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.evaluation.froc import REPORT_FPS, curve_from_matches, sensitivity_at
from deeplesion.evaluation.report_data import curve_points, gallery_data, lesion_rows
from deeplesion.evaluation.strata import strata_of
from tests.deeplesion.evaluation.report_material import (
    case_of,
    method_of,
    random_cases,
    random_method,
    write_slices,
)

HIT, FAR = [0, 0, 9, 9], [30, 30, 39, 39]


def test_every_point_of_a_short_curve() -> None:
    cases = [case_of(0, [HIT]), case_of(1, [HIT])]
    boxes = [[[*HIT, 0.9], [*FAR, 0.5]], [[*FAR, 0.5], [*HIT, 0.2]]]
    points = curve_points(method_of("m", cases, boxes).matches)
    assert points == {
        "fps": [0, 1, 1],
        "sensitivity": [0.5, 0.5, 1],
        "thresholds": [0.9, 0.5, 0.2],
    }


@given(seed=st.integers(0, 1000), limit=st.integers(2, 60))
def test_points_are_exact(seed: int, limit: int) -> None:
    cases = random_cases(12, seed)
    method = random_method("m", cases, seed)
    scores = [np.round(rows, 1) for rows in method.detections]  # with boxes of equal score
    method = method_of("m", cases, scores)
    points = curve_points(method.matches, limit=limit)
    matches = method.matches
    for fps, sensitivity, threshold in zip(*points.values(), strict=True):
        counted = matches.scores >= threshold
        assert fps == np.sum(matches.false_positive & counted) / len(cases)
        hits = [index >= 0 and counted[index] for index in matches.first_hit]
        assert sensitivity == np.mean(hits)
    assert points["thresholds"][0] == matches.scores[0]
    assert points["thresholds"][-1] == matches.scores[-1]


def test_a_long_curve_keeps_the_figures_of_tables() -> None:
    cases = random_cases(300)
    matches = random_method("m", cases, 1).matches
    curve = curve_from_matches(matches)
    points = curve_points(matches, limit=50)
    assert 20 < len(points["fps"]) < 60 < len(matches.scores)
    at = sensitivity_at(curve.sensitivity, curve.fps_per_image, REPORT_FPS)
    for fps, wanted in zip(REPORT_FPS, at, strict=True):
        last = int(np.searchsorted(points["fps"], fps, side="right")) - 1
        assert points["sensitivity"][last] == wanted


def test_curves_without_boxes_or_lesions() -> None:
    cases = [case_of(0, [HIT])]
    nothing = curve_points(method_of("m", cases, [[]]).matches)
    assert nothing == {"fps": [], "sensitivity": [], "thresholds": []}
    healthy = [case_of(0, [])]
    points = curve_points(method_of("m", healthy, [[[*HIT, 0.9], [*FAR, 0.5]]]).matches)
    assert np.isnan(points["sensitivity"]).all()
    assert points["fps"] == [1, 2]


def test_rows_of_lesions() -> None:
    cases = [case_of(1, [HIT, FAR]), case_of(2, []), case_of(3, [HIT])]
    first = method_of("a", cases, [[[*HIT, 0.9]], [], []])
    second = method_of("b", cases, [[], [], [[0, 0, 9, 8, 0.4]]])
    rows = lesion_rows(cases, [first, second], strata_of(cases, ("slice_interval", "coarse_type")))
    assert [(row["file"], row["lesion"], row["type"]) for row in rows] == [
        ("000002_01_01_005.png", 1, "abdomen"),
        ("000002_01_01_005.png", 2, "mediastinum"),
        ("000004_01_01_005.png", 1, "liver"),
    ]
    assert rows[0]["strata"] == {"slice_interval": "thin", "coarse_type": "abdomen"}
    np.testing.assert_array_equal([row["found"]["a"] for row in rows], [0.9, np.nan, np.nan])
    np.testing.assert_array_equal([row["found"]["b"] for row in rows], [np.nan, np.nan, 0.4])
    assert [row["overlap"]["b"] for row in rows] == [0, 0, 0.9]
    assert [row["interval"] for row in rows] == [2, 2, 1]
    np.testing.assert_allclose(rows[0]["long_axis"], 7.2)


def test_rows_refuse_a_method_of_other_cases() -> None:
    cases = [case_of(0, [HIT])]
    with pytest.raises(ValueError, match="m: detections must be 2, as in cases, got 1"):
        lesion_rows([*cases, *cases], [method_of("m", cases, [[]])])


def test_gallery_tells_its_rule(tmp_path: Path) -> None:
    cases = [case_of(0, [HIT])]
    methods = [method_of("m", cases, [[[*FAR, 0.9]]])]
    data, entries = gallery_data(cases, methods, write_slices(tmp_path, cases))
    assert [item["kind"] for item in data["gallery"]] == ["miss", "false positive"]
    assert len(entries) == 2
    assert data["gallery_note"].startswith("Misses: first the lesions that no box reaches")
    nothing, _ = gallery_data(cases, methods, None)
    assert nothing["gallery"] == []
    assert nothing["gallery_note"].startswith("There is no gallery")
