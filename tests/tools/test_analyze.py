"""tools/analyze.py as a user runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.ground_truth import read_cases
from tests.tools.running import error_line, run_tool
from tools.analyze import main

FEW = ["--replicates", "20"]


def write_predictions(path: Path, cases: list[Case], shift: float) -> Path:
    """Every lesion found, by a box that is off; a false positive in every second image."""
    images = []
    for number, case in enumerate(cases):
        boxes = [[*(box + shift).tolist(), 0.9 - 0.01 * number] for box in case.lesions]
        boxes += [[0.0, 0.0, 4.0, 4.0, 0.5]] * (number % 2)
        images.append({"img_id": number, "file_name": case.file_name, "bboxes": boxes})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"meta": {"config": "c.py"}, "images": images}))
    return path


@pytest.fixture(scope="module")
def cases(synthetic_root: Path) -> list[Case]:
    """Test split of the synthetic set."""
    return read_cases(synthetic_root / "DL_info.csv", "test")


def test_two_detectors_from_the_command_line(
    cases: list[Case], synthetic_root: Path, tmp_path: Path
) -> None:
    write_predictions(tmp_path / "far/predictions.json", cases, 500.0)
    good = write_predictions(tmp_path / "exact.json", cases, 0.0)
    result = run_tool(
        "tools/analyze.py", "far/predictions.json", f"best={good}", *FEW,
        "--data-root", synthetic_root, "--out", "out", "--gallery", 2, cwd=tmp_path,
        fresh=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "| **best** | 100.00 (100.0-100.0)" in result.stdout
    found = json.loads((tmp_path / "out/summary.json").read_text())
    assert found["detectors"]["far"]["overall"]["mean"]["value"] == 0
    assert found["detectors"]["best"]["overall"]["mean"]["value"] == 1
    assert found["comparisons"][0]["rows"][-1]["difference"] == 1
    assert list((tmp_path / "out/gallery").glob("*.png"))
    page = (tmp_path / "out/report.html").read_text()
    assert str(tmp_path) not in page
    assert "AlignShift" in page


def test_coco_results_without_slices(cases: list[Case], tmp_path: Path) -> None:
    images, annotations, results = [], [], []
    for number, case in enumerate(cases):
        shape = {"width": 64, "height": 64, "spacing": 1.0, "slice_intv": 2.0}
        images.append({"id": number, "file_name": case.file_name, "z_position": 0.5, **shape})
        for x1, y1, x2, y2 in case.lesions.tolist():
            box = {"image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({"id": len(annotations), "area": 9, "iscrowd": 0, **box})
            results.append({**box, "score": 0.5})
    truth, found = tmp_path / "truth.json", tmp_path / "coco.json"
    truth.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1}]})
    )
    found.write_text(json.dumps(results))
    out = tmp_path / "out"
    arguments = [str(found), "--ann-file", str(truth), "--out", str(out), *FEW]
    assert main([*arguments, "--criterion", "center", "--fps", "0.25", "1"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["settings"]["criterion"] == "center"
    assert list(summary["detectors"]["coco"]["overall"]["sensitivity"]) == ["0.25", "1"]
    assert summary["detectors"]["coco"]["coco"]["AP"] == pytest.approx(1)
    assert not (out / "gallery").exists()


def edges(text: str) -> Callable[[list[str]], list[str]]:
    return lambda arguments: [*arguments, "--edges", text]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: ["nowhere.json", *a[1:]], "predictions nowhere.json are not there"),
        (lambda a: [a[0], *a], "2 predictions are named 'exact'"),
        (lambda a: [*a, "--split", "val"], "is it the right split"),
        (lambda a: [*a, "--threshold", "7"], r"threshold must be in \(0, 1\], got 7"),
        (lambda a: [*a, "--level", "95"], "level must be between 0 and 1"),
        (lambda a: [*a, "--replicates", "0"], "replicates must be 1 or more"),
        (lambda a: [*a, "--gallery", "-1"], "--gallery must be 0 or more"),
        (lambda a: [*a, "--fps", "nan"], "false positives per image must be >= 0"),
        (edges("long_axis=5,x"), "--edges must be such as long_axis=5,20"),
        (edges("weight=5"), "must be one of"),
        (lambda a: [*a, "--ann-file", "none.csv"], "ground truth none.csv is not there"),
        (lambda a: [a[0], *a[3:]], "give --data-root, or --ann-file"),
    ],
)
def test_wrong_use_is_told_in_one_line(
    change: Callable[[list[str]], list[str]],
    message: str,
    cases: list[Case],
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_predictions(tmp_path / "exact.json", cases, 0.0)
    out = tmp_path / "out"
    arguments = [str(file), "--data-root", str(synthetic_root), "--out", str(out)]
    assert main(change(arguments)) == 1
    assert re.search(message, error_line(capsys.readouterr().err))
    assert not out.exists()


def test_a_cut_file_is_named(
    cases: list[Case], synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_predictions(tmp_path / "exact.json", cases, 0.0)
    file.write_text(file.read_text()[:-30])
    arguments = [str(file), "--data-root", str(synthetic_root), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "exact.json" in error_line(capsys.readouterr().err)


def test_same_seed_same_intervals(cases: list[Case], synthetic_root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = write_predictions(tmp_path / "p.json", cases, float(rng.uniform(1, 2)))
    texts = []
    for name in ("a", "b"):
        out = tmp_path / name
        arguments = [str(file), "--data-root", str(synthetic_root), "--out", str(out), *FEW]
        assert main([*arguments, "--gallery", "0"]) == 0
        texts.append((out / "summary.json").read_text())
    assert texts[0] == texts[1]
