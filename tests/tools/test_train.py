"""tools/train.py and its launchers as a user runs them."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.tools.running import (
    ITERS,
    NO_WORKERS,
    SHORT,
    SMALL,
    call_tool,
    called_in_vain,
    error_line,
    run_tool,
)
from tools.train import main

CONFIG = SMALL.format("alignshift")


def test_leaves_checkpoints_and_records_the_seed(trained: Path) -> None:
    assert (trained / f"iter_{ITERS}.pth").exists()
    assert list(trained.glob("best_froc_mean_*.pth"))
    (log,) = trained.glob("*/*.log")
    assert "seed: 3" in log.read_text()
    assert "froc/mean" in log.read_text()


def test_resume_goes_on_in_mixed_precision(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    longer = [option.replace(f"max_iters={ITERS}", f"max_iters={ITERS + 2}") for option in SHORT]
    arguments = [CONFIG, "--work-dir", tmp_path, "--data-root", synthetic_root, "--amp"]
    resume = ["--resume", trained / f"iter_{ITERS}.pth"]
    assert call_tool(main, *arguments, *resume, options=[*longer, *NO_WORKERS]) == 0
    assert (tmp_path / f"iter_{ITERS + 2}.pth").exists()
    (log,) = tmp_path.glob("*/*.log")
    assert f"Iter(train) [{ITERS + 1}/{ITERS + 2}]" in log.read_text()
    assert f"Iter(train) [{ITERS}/{ITERS + 2}]" not in log.read_text()


@pytest.mark.parametrize("operator", ["tsm", "a3d", "25d"])
def test_every_operator_trains(operator: str, synthetic_root: Path, tmp_path: Path) -> None:
    arguments = [SMALL.format(operator), "--work-dir", tmp_path, "--data-root", synthetic_root]
    assert call_tool(main, *arguments, options=[*SHORT, *NO_WORKERS]) == 0
    assert list(tmp_path.glob("best_froc_mean_*.pth"))


def test_two_processes_by_gloo(synthetic_root: Path, tmp_path: Path) -> None:
    result = run_tool(
        "tools/dist_train.sh", SMALL.format("alignshift"), 2, "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--cfg-options", *SHORT, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / f"iter_{ITERS}.pth").exists()


def test_missing_config_is_named(tmp_path: Path) -> None:
    result = run_tool("tools/train.py", "none.py", cwd=tmp_path)
    assert result.returncode == 1
    assert "config none.py does not exist" in error_line(result.stderr)


def test_missing_data_root_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    line = called_in_vain(main, CONFIG, "--data-root", "none", capsys=capsys)
    assert "'none'" in line
    assert "tools/make_synthetic.py" in line


def test_unknown_backbone_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    line = called_in_vain(main, CONFIG, capsys=capsys, options=["model.backbone.type=DenseNet"])
    assert "DenseNetCustomTrunc3dAlign, " in line


@pytest.fixture
def copied_root(synthetic_root: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may spoil."""
    return shutil.copytree(synthetic_root, tmp_path / "data")


def spoiled(data: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> str:
    """What tools/train.py says of a data set with a fault."""
    arguments = [CONFIG, "--data-root", data, "--work-dir", data.parent / "work"]
    return called_in_vain(main, *arguments, capsys=capsys, options=[*SHORT, *options])


def test_missing_masks_name_the_command(
    copied_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_root / "masks_train.json").unlink()
    line = spoiled(copied_root, capsys, NO_WORKERS)
    assert "masks_train.json" in line
    assert "make_masks.py" in line


def test_malformed_annotations_name_the_row(
    copied_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (copied_root / "DL_info.csv").read_text().splitlines()
    lines[4] = lines[4].replace('"', "", 1)
    (copied_root / "DL_info.csv").write_text("\n".join(lines))
    assert "row 5" in spoiled(copied_root, capsys, NO_WORKERS)


def test_split_without_key_slices_is_named(
    copied_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = (copied_root / "DL_info.csv").read_text().splitlines()
    rows = [f"{row.rpartition(',')[0]},3" for row in rows]
    (copied_root / "DL_info.csv").write_text("\n".join([header, *rows]))
    line = spoiled(copied_root, capsys, NO_WORKERS)
    assert "no key slice of split 'train'" in line


def test_8_bit_slices_end_in_one_line_from_a_worker(
    copied_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in copied_root.rglob("*.png"):
        cv2.imwrite(str(file), np.zeros((64, 64), np.uint8))
    line = spoiled(copied_root, capsys, ["train_dataloader.num_workers=1"])
    assert "8" in line
    assert ".png" in line
    assert "row" in line


@pytest.mark.parametrize(
    "script", ["tools/dist_train.sh", "deeplesion/train_dist.sh", "tools/slurm_train.sh"]
)
def test_launchers_tell_their_usage(script: str, tmp_path: Path) -> None:
    result = run_tool(script, cwd=tmp_path)
    assert result.returncode == 2
    assert "usage:" in result.stderr
