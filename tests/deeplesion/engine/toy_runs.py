"""Toy trainings as processes of their own, started at no cost, see :mod:`.toy_server`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.engine.training_log import SCALARS_FILE, read_scalars
from tests.conftest import REPO_ROOT
from tests.forked import python

PATIENCE = 300.0  # s, on a busy machine
# What two runs of one training may differ in.
OF_THE_MACHINE = ("train/time", "train/data_time")


class Server:
    """Starts trainings."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, order: dict[str, Any]) -> int:
        """Give one line and read the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


class Training:
    """One run of a training, in one process or several."""

    def __init__(
        self, server: Server, work_dir: Path, by_epoch: bool, processes: int = 1, **changes: Any
    ) -> None:
        self.server, self.work_dir = server, work_dir
        self.output = work_dir.parent / f"{work_dir.name}.txt"
        job: dict[str, Any] = {
            "work_dir": str(work_dir),
            "by_epoch": by_epoch,
            "output": str(self.output),
            "largest_file": changes.pop("largest_file", None),
            "changes": changes,
        }
        if processes > 1:
            job["store"] = str(work_dir.parent / f"{work_dir.name}.{time.time_ns()}")
            job["processes"] = processes
        self.pids = [server.ask({**job, "rank": rank}) for rank in range(processes)]

    def wait(self) -> list[int]:
        """Exit codes of its processes."""
        return [self.server.ask({"wait": pid}) for pid in self.pids]

    def alive(self) -> bool:
        """Whether the first process has not ended."""
        status = Path(f"/proc/{self.pids[0]}/stat").read_text()
        return status.rpartition(")")[2].split()[0] != "Z"

    def until_iteration(self, number: int) -> None:
        """Wait until some iteration is logged."""
        file, end = self.work_dir / SCALARS_FILE, time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if file.exists() and file.read_bytes().count(b"\n") >= number:
                return
            time.sleep(0.002)
        raise TimeoutError(self.output.read_text())

    def send(self, number: signal.Signals, rank: int | None = None) -> None:
        """Send a signal to one process or to all."""
        for pid in self.pids if rank is None else [self.pids[rank]]:
            os.kill(pid, number)


@contextmanager
def serving() -> Iterator[Server]:
    """A server of trainings."""
    command = [python(), "-m", "tests.deeplesion.engine.toy_server"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=REPO_ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield Server(process)


def log_of(work_dir: Path) -> list[dict[str, float]]:
    """The numbers of a training that must come again."""
    records = read_scalars(work_dir / SCALARS_FILE)
    return [{k: v for k, v in record.items() if k not in OF_THE_MACHINE} for record in records]


def result_of(work_dir: Path, by_epoch: bool) -> dict[str, Any]:
    """The last checkpoint of a finished training, as plain tensors and numbers by name."""
    last = "epoch_3.pth" if by_epoch else "iter_21.pth"
    checkpoint = read_checkpoint(work_dir / last)
    kept = {k: checkpoint[k] for k in ("state_dict", "ema_state_dict", "optimizer")}
    histories = checkpoint["message_hub"]["log_scalars"]
    kept["smoothed"] = {
        name: torch.as_tensor(history.data[0])
        for name, history in histories.items()
        if not name.endswith("time")
    }
    (best,) = work_dir.glob("best_*.pth")
    kept["best"] = {best.name: read_checkpoint(best)["state_dict"]}
    kept["schedulers"] = checkpoint["param_schedulers"]
    return dict(_flat(kept))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            yield from _flat(part, f"{name}/{key}")
    else:
        yield name, value


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two results bit for bit."""
    assert found.keys() == expected.keys()
    different = [
        name
        for name, value in expected.items()
        if not (
            torch.equal(found[name], value)
            if isinstance(value, torch.Tensor)
            else found[name] == value
        )
    ]
    assert not different
