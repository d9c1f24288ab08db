"""Functions run in several processes that talk by gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine.registry import init_default_scope

PRELOADED = ["deeplesion", "deeplesion.components", "deeplesion.engine.runner", __name__]
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
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # As bytes: PyTorch would have all processes share the memory of tensors.
    work = pickle.dumps((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            group = (Path(folder) / "store", rank, processes)
            process = context.Process(target=_work, args=(theirs, group, work), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
        try:
            return [_receive(ours) for _, ours in started]
        finally:
            for process, _ in started:
                process.join(1)
                process.kill()


def _work(pipe: Connection, group: tuple[Path, int, int], work: bytes) -> None:
    torch.set_num_threads(1)
    init_default_scope("mmdet")
    os.environ["LOCAL_RANK"] = str(group[1])
    store, rank, processes = group
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=processes,
            timeout=timedelta(seconds=PATIENCE),
        )
        function, arguments = pickle.loads(work)
        result = function(*arguments)
        # Tools leave it by themselves.
        if dist.is_initialized():
            dist.destroy_process_group()
        # As bytes: PyTorch would share the memory of tensors, which ends with this process.
        pipe.send_bytes(pickle.dumps((True, result)))
    except BaseException:
        pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(PATIENCE):
        raise RuntimeError("a process does not come to an end")
    done, result = pickle.loads(pipe.recv_bytes())
    if not done:
        raise RuntimeError(result)
    return result
