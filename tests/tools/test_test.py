"""tools/test.py and its launchers as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from tests.tools.running import SMALL, error_line, run_tool

CONFIG = SMALL.format("alignshift")


@pytest.fixture(scope="session")
def evaluated(
    trained: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work folder after an evaluation with overlays."""
    folder = tmp_path_factory.mktemp("evaluated")
    result = run_tool(
        "tools/test.py", CONFIG, trained / "iter_3.pth", "--work-dir", folder,
        "--data-root", synthetic_root, "--show-dir", folder / "show",
        "--show-score-thr", 0.0, "--show-max", 2, cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_writes_figures_plot_and_predictions(evaluated: Path) -> None:
    froc = json.loads((evaluated / "froc.json").read_text())
    predictions = json.loads((evaluated / "predictions.json").read_text())
    names = [image["file_name"] for image in predictions["images"]]
    assert len(set(names)) == len(names) > 0
    assert 0 <= froc["metrics"]["mean"] <= 1
    assert cv2.imread(str(evaluated / "froc.png")) is not None


def test_writes_at_most_as_many_overlays_as_asked(evaluated: Path) -> None:
    overlays = sorted((evaluated / "show").glob("*.png"))
    assert len(overlays) == 2
    assert cv2.imread(str(overlays[0])).std() > 10


def test_two_processes_give_the_figures_of_one(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "tools/dist_test.sh", CONFIG, trained / "iter_3.pth", 2, "--work-dir", tmp_path,
        "--data-root", synthetic_root, cwd=tmp_path, PORT="29612",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    together, alone = (
        json.loads((folder / "froc.json").read_text()) for folder in (tmp_path, evaluated)
    )
    assert together["metrics"] == alone["metrics"]


def test_mixed_precision_and_another_split(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "deeplesion/eval.sh", CONFIG, trained / "iter_3.pth", "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--split", "val", "--amp", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "predictions.json").read_text())["images"]


def test_missing_checkpoint_is_named(synthetic_root: Path, tmp_path: Path) -> None:
    arguments = ["tools/test.py", CONFIG, "none.pth", "--data-root", synthetic_root]
    assert "checkpoint none.pth does not exist" in error_line(run_tool(*arguments, cwd=tmp_path))


def test_torn_checkpoint_is_named(synthetic_root: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 no more")
    arguments = ["tools/test.py", CONFIG, "torn.pth", "--data-root", synthetic_root]
    assert "torn.pth is torn" in error_line(run_tool(*arguments, cwd=tmp_path))


def test_checkpoint_of_another_network_is_refused(synthetic_root: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(1)}}, tmp_path / "other.pth")
    arguments = ["tools/test.py", CONFIG, "other.pth", "--data-root", synthetic_root]
    assert "other.pth does not fit the config" in error_line(run_tool(*arguments, cwd=tmp_path))
