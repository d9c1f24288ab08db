"""The published results that ship with the package, and files that are malformed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deeplesion.evaluation.froc import MEAN_FPS
from deeplesion.evaluation.reference import REFERENCE_FILE, read_references

ROWS = read_references()


def test_the_rows() -> None:
    assert {row.label: round(100 * row.mean, 2) for row in ROWS} == {
        "3DCE, 27 slices": 75.55,
        "MVP-Net, 9 slices": 83.64,
        "MULAN, 9 slices": 85.22,
        "MP3D, 9 slices": 86.74,
        "AlignShift, 3 slices": 83.25,
        "AlignShift, 7 slices": 87.06,
        "A3D, 3 slices": 83.98,
        "A3D, 7 slices": 88.11,
        "A3D + SATr, 7 slices": 87.92,
        "LN-DETR": 88.46,
    }
    assert all(row.source and row.arxiv and row.note for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_sensitivities_rise_around_the_mean(row: Any) -> None:
    values = [row.sensitivity[fps] for fps in MEAN_FPS if fps in row.sensitivity]
    assert values == sorted(values)
    assert row.sensitivity.get(0.5, 0) < row.mean < row.sensitivity.get(4.0, 1)


def test_sources() -> None:
    first = ROWS[0]
    assert first.source == (
        "3D Context Enhanced Region-based Convolutional Neural Network for End-to-End Lesion "
        "Detection, MICCAI 2018, arXiv 1806.09648, doi 10.1007/978-3-030-00928-1_58"
    )
    assert [row.method for row in ROWS if row.confirmed] == ["LN-DETR"]
    assert ROWS[-1].sensitivity == {}
    assert ROWS[2].sensitivity == pytest.approx({0.5: 0.7612, 1.0: 0.8369, 4.0: 0.923})


GOOD = json.loads(REFERENCE_FILE.read_text(encoding="utf-8"))["results"][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "other.json is not JSON: .*; mend it or take the one shipped"),
        ("[]", "must be an object with a list of 'results'"),
        ('{"results": 3}', "must be an object with a list of 'results'"),
        ('{"results": [3]}', "result 0 of .*other.json must be an object, got 3"),
        (
            {"results": [GOOD, {k: v for k, v in GOOD.items() if k != "year"}]},
            "result 1 of .* has no 'year': add it",
        ),
        ({"results": [{**GOOD, "mean": None}]}, "'mean' must be int or float, got None"),
        ({"results": [{**GOOD, "slices": True}]}, "'slices' must be int or null, got True"),
        ({"results": [{**GOOD, "mean": 7555}]}, "figures must be from 0 to 100 %, got 7555"),
    ],
)
def test_malformed_files(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_references(path)
