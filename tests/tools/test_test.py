"""tools/test.py and its launchers as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from tests.tools.running import (
    ITERS,
    NO_WORKERS,
    SMALL,
    call_tool,
    called_in_vain,
    error_line,
    run_tool,
)
from tools.test import main

CONFIG = SMALL.format("alignshift")
CHECKPOINT = f"{{}}/iter_{ITERS}.pth"


@pytest.fixture(scope="session")
def evaluated(
    trained: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work folder after an evaluation with overlays."""
    folder = tmp_path_factory.mktemp("evaluated")
    result = run_tool(
        "tools/test.py", CONFIG, CHECKPOINT.format(trained), "--work-dir", folder,
        "--data-root", synthetic_root, "--show-dir", folder / "show",
        "--show-score-thr", 0.0, "--show-max", 2, cwd=folder, fresh=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_writes_figures_plot_and_predictions(evaluated: Path) -> None:
    froc = json.loads((evaluated / "froc.json").read_text())
    predictions = json.loads((evaluated / "predictions.json").read_text())
    names = [image["file_name"] for image in predictions["images"]]
    assert len(set(names)) == len(names) > 0
    assert all(len(image["masks"]) == len(image["bboxes"]) for image in predictions["images"])
    for recorded in (froc["settings"], predictions["meta"]):
        assert recorded["config"] == Path(CONFIG).name
        assert recorded["checkpoint"].startswith("iter_")
        assert recorded["split"] == "test"
    assert 0 <= froc["metrics"]["mean"] <= 1
    assert cv2.imread(str(evaluated / "froc.png")) is not None


def test_writes_at_most_as_many_overlays_as_asked(evaluated: Path) -> None:
    overlays = sorted((evaluated / "show").glob("*.png"))
    assert len(overlays) == 2
    assert cv2.imread(str(overlays[0])).std() > 10


def test_report_is_of_what_was_evaluated(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    options = [*NO_WORKERS, "test_dataloader.dataset.indices=2", "test_evaluator.one_to_one=True"]
    arguments = [CONFIG, CHECKPOINT.format(trained), "--work-dir", tmp_path, "--report"]
    root = ["--data-root", synthetic_root]
    assert call_tool(main, *arguments, *root, options=options) == 0
    summary = json.loads((tmp_path / "report/summary.json").read_text())
    figures = json.loads((tmp_path / "froc.json").read_text())
    assert summary["counts"]["images"] == figures["counts"]["images"] == 2
    assert summary["settings"]["one_to_one"]
    detector = summary["detectors"][Path(CONFIG).stem]["overall"]
    assert detector["mean"]["value"] == pytest.approx(figures["metrics"]["mean"])
    assert (tmp_path / "report/report.html").is_file()


def test_two_processes_give_the_figures_of_one(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "tools/dist_test.sh", CONFIG, CHECKPOINT.format(trained), 2, "--work-dir", tmp_path,
        "--data-root", synthetic_root, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("results are in") == 1
    together, alone = (
        json.loads((folder / "froc.json").read_text()) for folder in (tmp_path, evaluated)
    )
    assert together["metrics"] == alone["metrics"]


def test_mixed_precision_and_another_split(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "deeplesion/eval.sh", CONFIG, CHECKPOINT.format(trained), "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--split", "val", "--amp", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "predictions.json").read_text())["images"]


def test_default_folder_names_config_and_split(
    trained: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [CONFIG, CHECKPOINT.format(trained), "--data-root", synthetic_root]
    assert call_tool(main, *arguments, "--split", "val", options=NO_WORKERS) == 0
    assert (tmp_path / "work_dirs" / Path(CONFIG).stem / "val" / "froc.json").exists()


def test_missing_checkpoint_is_named(synthetic_root: Path, tmp_path: Path) -> None:
    arguments = ["tools/test.py", CONFIG, "none.pth", "--data-root", synthetic_root]
    result = run_tool(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "checkpoint none.pth does not exist" in error_line(result.stderr)


def refusal(config: str, checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """How tools/test.py refuses a checkpoint."""
    arguments = [config, checkpoint, "--data-root", data, "--work-dir", checkpoint.parent]
    return called_in_vain(main, *arguments, capsys=capsys)


def test_torn_checkpoint_is_named(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(b"PK\x03\x04 no more")
    assert "torn.pth is torn" in refusal(CONFIG, torn, synthetic_root, capsys)


def test_checkpoint_of_another_network_is_refused(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}}, other)
    line = refusal(CONFIG, other, synthetic_root, capsys)
    assert "other.pth does not fit the config: none of its 1 weights" in line


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("tsm", "it was trained with AlignShiftConv, the config has TSMConv"),
        ("a3d", "adaptive_align_weights"),
    ],
)
def test_checkpoint_of_another_operator_is_refused(
    operator: str,
    reason: str,
    trained: Path,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = tmp_path / "copy.pth"
    checkpoint.symlink_to(CHECKPOINT.format(trained))
    assert reason in refusal(SMALL.format(operator), checkpoint, synthetic_root, capsys)
