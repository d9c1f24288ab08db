"""Process groups on machines with and without GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from mmengine.config import Config

LONGEST_WAIT = timedelta(days=7)


def prepare_distributed(cfg: Config) -> None:
    """Make the ``pytorch`` launcher work on a CPU.

    mmengine's launcher calls ``torch.cuda.set_device`` and gives DDP ``device_ids`` whatever the
    backend, so on a machine without CUDA the process group is set up here, by gloo, before the
    Runner looks for one. Where there is CUDA nothing is changed.

    Args:
        cfg: The config; ``launcher`` is read, ``model_wrapper_cfg`` set.
    """
    if cfg.get("launcher", "none") != "pytorch" or torch.cuda.is_available():
        return
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    cfg.setdefault(
        "model_wrapper_cfg",
        {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False},
    )


@contextmanager
def process_group(cfg: Config) -> Iterator[None]:
    """Prepare the processes of a launcher, and leave their group whatever happens.

    Args:
        cfg: The config, see :func:`prepare_distributed`.
    """
    prepare_distributed(cfg)
    try:
        yield
    finally:
        shut_down()


@contextmanager
def worker_group() -> Iterator[tuple[int, int]]:
    """Join the other processes of torchrun, if there are any, to share work that needs no GPU talk.

    Yields:
        Rank of this process and number of processes; 0 and 1 where torchrun did not start it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    # One may have work for hours when another is done.
    dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        shut_down()


def shut_down() -> None:
    """Leave the process group, if there is one, so that no process waits for another at exit."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
