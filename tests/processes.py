"""Functions run in several processes that talk by gloo: ``python -m tests.processes`` is one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.registry import init_default_scope

from tests.forked import python

REPO_ROOT = Path(__file__).resolve().parents[1]
# What waits for longer waits for ever.
PATIENCE = 300


def run_processes(function: Callable, processes: int, *arguments: Any) -> list:
    """What a function gives in each of several processes, by rank.

    They are forked from a process that has imported everything and computed nothing: autograd's
    threads do not survive a fork.

    Args:
        function: Of a module, called inside of a process group; its arguments and results are
            pickled.
        processes: How many.
        *arguments: Of the function.

    Raises:
        RuntimeError: It raised in one of them, or did not come to an end.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "work").write_bytes(pickle.dumps((function, arguments)))
        command = [python(), "-m", "tests.processes", name, str(processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, str(rank)], cwd=REPO_ROOT, env=environment)
            for rank in range(processes)
        ]
        try:
            return [_result(process, folder / str(rank)) for rank, process in enumerate(started)]
        finally:
            for process in started:
                process.kill()
                process.wait()


def _result(process: subprocess.Popen, file: Path) -> Any:
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError("a process does not come to an end") from None
    if not file.exists():
        raise RuntimeError(f"a process has ended by exit code {code}, without a word")
    done, result = pickle.loads(file.read_bytes())
    if not done:
        raise RuntimeError(result)
    return result


def main(folder: Path, processes: int, rank: int) -> None:
    """Be one of the processes: leave in a file of the folder what the function in it gives."""
    torch.set_num_threads(1)
    init_default_scope("mmdet")
    os.environ["LOCAL_RANK"] = str(rank)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'store'}",
            rank=rank,
            world_size=processes,
            timeout=timedelta(seconds=PATIENCE),
        )
        function, arguments = pickle.loads((folder / "work").read_bytes())
        answer = (True, function(*arguments))
        # Tools leave it by themselves.
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException:
        answer = (False, traceback.format_exc())
    (folder / str(rank)).write_bytes(pickle.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
