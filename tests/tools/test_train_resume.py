"""Killing tools/train.py and resuming it, as a user does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.engine.training_log import read_scalars
from tests.tools.running import ITERS, REPO_ROOT, SHORT, SMALL, run_tool

PATIENCE = 300.0
OF_THE_MACHINE = ("train/time", "train/data_time")


def numbers(folder: Path) -> list[dict[str, float]]:
    """What is logged, but for the speed of the machine."""
    records = read_scalars(folder / "scalars.jsonl")
    return [{k: v for k, v in record.items() if k not in OF_THE_MACHINE} for record in records]


def test_a_killed_training_ends_as_one_that_was_not(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    command = [
        "tools/train.py", SMALL.format("alignshift"), "--work-dir", tmp_path, "--data-root",
        synthetic_root, "--seed", 3, "--resume", "--cfg-options", *SHORT,
        "default_hooks.checkpoint.every_iters=1",
    ]  # fmt: skip
    log, end = tmp_path / "scalars.jsonl", time.monotonic() + PATIENCE
    name, *arguments = map(str, command)
    with subprocess.Popen(
        [sys.executable, str(REPO_ROOT / name), *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    result = run_tool(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    last = f"iter_{ITERS}.pth"
    expected, found = (read_checkpoint(f / last)["state_dict"] for f in (trained, tmp_path))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert numbers(tmp_path) == numbers(trained)
