"""tools/train.py on two processes, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.engine.training_log import read_scalars
from tests.forked import python
from tests.tools.running import ITERS, REPO_ROOT, SHORT, SMALL, run_tool

PATIENCE = 300.0
OF_THE_MACHINE = ("train/time", "train/data_time")
# With as many images in a step as one process has in those of `trained`.
OPTIONS = [
    *SHORT,
    "train_dataloader.batch_size=1",
    "train_dataloader.num_workers=0",
    "val_dataloader.num_workers=0",
    "default_hooks.checkpoint.every_iters=1",
]


def command(folder: Path, data: Path) -> list[str]:
    """The script and its arguments."""
    arguments = ["tools/dist_train.sh", SMALL.format("alignshift"), 2, "--work-dir", folder]
    arguments += ["--data-root", data, "--seed", 3, "--cfg-options", *OPTIONS]
    return [str(argument) for argument in arguments]


@pytest.fixture(scope="module")
def together(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a training on two processes."""
    folder = tmp_path_factory.mktemp("together")
    result = run_tool(*command(folder, synthetic_root), cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def losses(folder: Path) -> dict[str, float]:
    """What is logged of the first iteration."""
    (first,) = [r for r in read_scalars(folder / "scalars.jsonl") if r["iter"] == 1]
    return {name: value for name, value in first.items() if "loss" in name or "acc" in name}


def test_two_processes_log_the_losses_of_the_whole_batch(together: Path, trained: Path) -> None:
    expected, found = losses(trained), losses(together)
    assert len(expected) > 5
    # Which of many like boxes become RoIs hangs on rounding, which hangs on the size of a batch.
    of_rois = {"train/loss", "train/loss_cls", "train/loss_bbox", "train/loss_mask", "train/acc"}
    assert found == pytest.approx(expected, rel=2e-3)
    assert {n: v for n, v in found.items() if n not in of_rois} == pytest.approx(
        {n: v for n, v in expected.items() if n not in of_rois}, rel=1e-6
    )


def test_an_evaluation_leaves_no_folder_behind(together: Path) -> None:
    assert any("val/froc/mean" in record for record in read_scalars(together / "scalars.jsonl"))
    # It was the working directory as well, where mmengine collects results.
    assert not (together / ".dist_test").exists()


def numbers(folder: Path) -> list[dict[str, float]]:
    """What is logged, but for the speed of the machine."""
    records = read_scalars(folder / "scalars.jsonl")
    return [{k: v for k, v in record.items() if k not in OF_THE_MACHINE} for record in records]


def kill_worker(folder: Path, rank: int) -> None:
    """Kill a worker of the launcher that keeps its files in a folder, after an iteration."""
    end = time.monotonic() + PATIENCE
    while not (folder / "work/last_checkpoint").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    (file,) = folder.glob(f"launch_*/{rank}-*.pid")
    os.kill(int(file.stem.split("-")[1]), signal.SIGKILL)


def test_a_killed_worker_is_started_again_and_all_go_on(
    together: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    script, *arguments = command(tmp_path / "work", synthetic_root)
    settings = {"MAX_RESTARTS": "1", "TMPDIR": str(tmp_path), "PYTHON": python()}
    with subprocess.Popen(
        ["bash", str(REPO_ROOT / script), *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as launcher:
        kill_worker(tmp_path, rank=1)
        _, errors = launcher.communicate(timeout=PATIENCE)
    assert launcher.returncode == 0, errors[-3000:]
    work = tmp_path / "work"
    summary = json.loads((work / "summary.json").read_text())
    assert (summary["state"], summary["sessions"]) == ("finished", 2)
    last = f"iter_{ITERS}.pth"
    expected, found = (read_checkpoint(f / last)["state_dict"] for f in (together, work))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert numbers(work) == numbers(together)
