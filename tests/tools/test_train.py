"""tools/train.py and its launchers as a user runs them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.forked import python
from tests.tools.running import (
    ITERS,
    NO_WORKERS,
    REPO_ROOT,
    SHORT,
    SMALL,
    call_tool,
    called_in_vain,
    error_line,
    run_tool,
)
from tools.train import REQUEUE, RESTARTS, main, parse_args

CONFIG = SMALL.format("alignshift")
# In the middle of what comes before training.
WAITING = "import time\nprint('ready', flush=True)\ntime.sleep(200)"
# Waits for a lock that it has itself, where Python hears of no signal.
DEEP_IN_C = """
import ctypes
from tools.train import requeue_until_training_begins
requeue_until_training_begins()
libc, lock = ctypes.CDLL(None), ctypes.create_string_buffer(64)
print("ready", flush=True)
libc.pthread_mutex_lock(lock)
libc.pthread_mutex_lock(lock)
"""
AT_THE_END = """
import os, signal, time
from tools.train import heed_signals_as_usual, requeue_until_training_begins
requeue_until_training_begins()
heed_signals_as_usual()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(10)
"""
WITH_A_CHILD = """
import os, signal, time
from tools.train import requeue_until_training_begins
requeue_until_training_begins()
reader, writer = os.pipe()
if not (child := os.fork()):
    os.write(writer, b"ready")
    time.sleep(200)
os.read(reader, 1)
os.kill(child, signal.SIGTERM)
os.waitpid(child, 0)
time.sleep(0.2)
print("unharmed")
"""


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


def ended_by(number: int, *command: object, cwd: Path) -> int:
    """The exit code of a program that gets a signal as soon as it says that it is ready."""
    with subprocess.Popen(
        [python(), *map(str, command)], cwd=cwd, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
    return program.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_training_asks_to_be_started_again(number: int, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(WAITING)
    assert ended_by(number, REPO_ROOT / "tools/train.py", "config.py", cwd=tmp_path) == REQUEUE


def test_a_signal_is_heard_deep_in_c_as_well() -> None:
    assert ended_by(signal.SIGTERM, "-c", DEEP_IN_C, cwd=REPO_ROOT) == REQUEUE


def test_a_signal_to_a_child_is_none_to_the_training() -> None:
    result = subprocess.run([python(), "-c", WITH_A_CHILD], cwd=REPO_ROOT, capture_output=True)
    assert (result.returncode, result.stdout) == (0, b"unharmed\n"), result.stderr


def test_what_has_trained_is_not_to_be_started_again_for_a_late_signal() -> None:
    result = subprocess.run([sys.executable, "-c", AT_THE_END], cwd=REPO_ROOT, capture_output=True)
    assert result.returncode == -signal.SIGTERM, result.stderr


def test_a_worker_that_was_started_again_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RESTARTS, "0")
    assert parse_args(["config.py"]).resume is None
    monkeypatch.setenv(RESTARTS, "2")
    assert parse_args(["config.py"]).resume == "auto"
    assert parse_args(["config.py", "--resume", "epoch_3.pth"]).resume == "epoch_3.pth"
