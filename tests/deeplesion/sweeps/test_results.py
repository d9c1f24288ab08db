"""The table of a sweep: means over seeds, intervals, spread, differences."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from deeplesion.evaluation.analysis import Settings
from deeplesion.evaluation.bootstrap import bootstrap
from deeplesion.evaluation.comparison import compare
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.sweeps.results import summarize, write_results
from tests.deeplesion.evaluation.report_material import case_of, random_cases, random_method

SETTINGS = Settings(replicates=60)
DRAWN = {"replicates": 60}
CASES = random_cases(24)
PATIENTS = [case.patient for case in CASES]
METHODS = [random_method(f"m{n}", CASES, seed=n, jitter=0.4 + 0.2 * n) for n in range(3)]


def test_one_seed_has_the_interval_of_the_detector() -> None:
    first, second = METHODS[:2]
    rows = summarize(CASES, {"a": {0: first.detections}, "b": {0: second.detections}}, SETTINGS)
    alone = bootstrap(first.matches, PATIENTS, **DRAWN).overall
    assert rows[0].mean == pytest.approx(alone.mean)
    assert rows[0].sensitivity[0.5] == pytest.approx(alone.sensitivity[0.5])
    assert math.isnan(rows[0].spread)
    assert rows[0].difference is None
    (compared,) = compare({"a": first.matches, "b": second.matches}, PATIENTS, **DRAWN)
    assert rows[1].difference == pytest.approx(compared.mean)


def test_seeds_are_averaged_and_their_spread_told() -> None:
    found = {seed: method.detections for seed, method in zip((3, 5, 8), METHODS, strict=True)}
    (row,) = summarize(CASES, {"a": found}, SETTINGS)
    means = [bootstrap(m.matches, PATIENTS, replicates=1).overall.mean.value for m in METHODS]
    assert list(row.means) == [3, 5, 8]
    assert list(row.means.values()) == pytest.approx(means)
    assert row.mean.value == pytest.approx(np.mean(means))
    assert row.spread == pytest.approx(np.std(means, ddof=1))
    assert row.mean.low < row.mean.value < row.mean.high
    assert list(row.sensitivity) == list(REPORT_FPS)


def test_one_patient_alone_has_no_interval(tmp_path: Path) -> None:
    cases = [case_of(0, [[10, 10, 20, 20]])]
    found = [np.array([[10, 10, 20, 20, 0.9]])]
    rows = summarize(cases, {"a": {0: found}, "b": {0: found}}, SETTINGS)
    assert rows[0].mean.value == 1
    assert math.isnan(rows[0].mean.low)
    assert math.isnan(rows[1].difference.p_value)  # type: ignore[union-attr]
    write_results(tmp_path, rows, SETTINGS, {})
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["settings"][1]["difference"] == {
        "value": 0.0, "low": None, "high": None, "p_value": None
    }  # fmt: skip


def test_writes_one_table_in_three_ways(tmp_path: Path) -> None:
    found = {
        "a": {0: METHODS[0].detections, 1: METHODS[1].detections},
        "b": {0: METHODS[2].detections},
    }
    rows = summarize(CASES, found, SETTINGS)
    write_results(tmp_path, rows, SETTINGS, {"b_seed1": "only begun"})
    text = (tmp_path / "sweep.md").read_text()
    assert f"| a | 2 | {100 * rows[0].sensitivity[0.5].value:.2f} (" in text
    assert "- b_seed1: only begun" in text
    with (tmp_path / "sweep.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["setting"] for line in lines] == ["a", "b"]
    assert lines[0]["seeds"] == "0 1"
    assert float(lines[0]["mean"]) == rows[0].mean.value
    assert lines[0]["difference"] == lines[1]["mean_sd"] == ""
    assert float(lines[1]["p_value"]) == rows[1].difference.p_value  # type: ignore[union-attr]
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["settings"][0]["means"] == {str(k): v for k, v in rows[0].means.items()}
    assert content["unfinished"] == {"b_seed1": "only begun"}


def test_nothing_done_yet_is_said(tmp_path: Path) -> None:
    write_results(tmp_path, [], SETTINGS, {"a_seed0": "only begun"})
    assert "No training is done yet" in (tmp_path / "sweep.md").read_text()
    assert json.loads((tmp_path / "sweep.json").read_text())["settings"] == []
