"""An analysis as data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from deeplesion.evaluation.analysis import Settings, analyze
from deeplesion.evaluation.analysis_page import notes_of, page_data, provenance_of, summary
from deeplesion.evaluation.html_report import render
from deeplesion.evaluation.predictions import Predictions
from deeplesion.evaluation.reference import read_references
from tests.deeplesion.evaluation.report_material import case_of
from tests.deeplesion.evaluation.test_analysis import analysis_of_two

NO_GALLERY = {"gallery": [], "gallery_note": ""}


def test_summary_has_every_figure_and_is_strict_json() -> None:
    analysis = analysis_of_two()
    found = json.loads(json.dumps(summary(analysis, {"split": "test"}), allow_nan=False))
    assert found["provenance"] == {"split": "test"}
    assert found["counts"]["images"] == found["counts"]["patients"] == 12
    assert found["settings"]["seed"] == 0
    good = found["detectors"]["good"]
    result = analysis.results["good"].overall
    assert good["overall"]["mean"]["value"] == result.mean.value
    assert good["overall"]["sensitivity"]["0.5"]["low"] == result.sensitivity[0.5].low
    assert {row["kind"] for row in good["strata"]} >= {"slice_interval", "long_axis", "age"}
    assert {row["kind"] for row in good["own_sets"]} == {"slice_interval"}
    assert 0 < good["coco"]["AP"] < good["coco"]["AP50"] <= 1
    rows = found["comparisons"][0]["rows"]
    assert [row["fps"] for row in rows] == ["0.5", "1", "2", "4", "8", "16", "mean"]
    assert rows[-1]["difference"] == pytest.approx(analysis.comparisons[0].mean.value)


def test_page_takes_the_data() -> None:
    analysis = analysis_of_two()
    references = read_references()
    data = page_data(analysis, {"split": "test"}, NO_GALLERY, references)
    assert len(data["lesions"]) == sum(len(case.lesions) for case in analysis.cases)
    assert {row["name"] for row in data["methods"]} == {"poor", "good"}
    assert data["references"][0]["mean"] == pytest.approx(100 * references[0].mean)
    assert "not a medical device" in render(data)


def test_what_was_evaluated_is_told() -> None:
    cases = [case_of(0, [[0, 0, 19, 19]])]
    meta = {"config": "c.py", "checkpoint": "k.pth", "other": 1}
    item = Predictions("m", [np.empty((0, 5))], ("a note",), "x/p.json", "ab" * 32, meta)
    analysis = analyze(cases, [item], Settings(replicates=2))
    facts = provenance_of(analysis, "DL_info.csv", None)
    assert facts["m"] == "p.json, sha256 abababababababab; config c.py; checkpoint k.pth"
    assert facts["split"] == "all"
    assert facts["hit"] == "IoU >= 0.5"
    assert facts["intervals"] == "95 %, 2 draws of patients, seed 0"
    one_patient = "m: lesions of one patient alone: there is no interval."
    precision = "m: COCO's AP 0.0, AP50 0.0 (in %)."
    assert notes_of(analysis) == ["m: a note", precision, one_patient]


def test_undefined_figures_are_null() -> None:
    cases = [case_of(0, []), case_of(1, [])]
    item = Predictions("m", [np.array([[0, 0, 5, 5, 0.5]]), np.empty((0, 5))], ())
    found = summary(analyze(cases, [item], Settings(replicates=2)), {})
    assert found["detectors"]["m"]["overall"]["mean"] == {"value": None, "low": None, "high": None}
    json.dumps(found, allow_nan=False)
