"""Process groups on machines with and without GPUs, and what a detector needs in many processes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alignshift.models.dense_block import DenseLayer
from alignshift.models.sync_norm import SyncBatchNorm2d

LONGEST_WAIT = timedelta(days=7)


def prepare_distributed(cfg: Config) -> None:
    """Make launchers work on a CPU, and ``sync_bn="torch"`` on any device.

    mmengine's ``pytorch`` launcher calls ``torch.cuda.set_device`` whatever the backend, so on a
    machine without CUDA the process group is set up here, by gloo, before the Runner looks for one.

    Args:
        cfg: The config; ``launcher`` is read, ``model_wrapper_cfg`` set where it is not, and
            ``sync_bn`` taken away where the wrapper sees to it.
    """
    launcher = cfg.get("launcher", "none")
    if launcher == "none":
        return
    if launcher == "pytorch" and not torch.cuda.is_available() and not dist.is_initialized():
        dist.init_process_group("gloo")
    if cfg.get("model_wrapper_cfg") is None and cfg.get("sync_bn") in (None, "torch"):
        unused = cfg.get("find_unused_parameters", False)
        cfg.model_wrapper_cfg = {
            "type": "CTDistributedDataParallel",
            "sync_norms": cfg.get("sync_bn") is not None,
            "find_unused_parameters": unused,
        }
        cfg.sync_bn = None


@MODEL_WRAPPERS.register_module()
class CTDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's DDP on any device, with batch norms over the batches of all processes.

    Args:
        module: The detector, on its device.
        sync_norms: Whether batch norms take the batches of all processes in training.
        device_ids: Of the GPU; not looked at on a CPU, where DDP wants none.
        broadcast_buffers: Whether to send the buffers of the first process before each step;
            synchronized norms have the same everywhere.
        **kwargs: See :class:`torch.nn.parallel.DistributedDataParallel`.
    """

    def __init__(
        self,
        module: nn.Module,
        sync_norms: bool = True,
        device_ids: list[int] | None = None,
        broadcast_buffers: bool = False,
        **kwargs: Any,
    ) -> None:
        if sync_norms:
            synchronize_norms(module)
        on_gpu = any(parameter.is_cuda for parameter in module.parameters())
        with warnings.catch_warnings():
            # The name that takes its place is not known to every PyTorch that we run on.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            super().__init__(
                module=module,
                device_ids=device_ids if on_gpu else None,
                broadcast_buffers=broadcast_buffers,
                **kwargs,
            )


def synchronize_norms(model: nn.Module) -> None:
    """Let batch norms take the batches of all processes in training.

    On a GPU they become :class:`torch.nn.SyncBatchNorm`, but for those in dense blocks, which run
    fused; on a CPU, which that one refuses, they become
    :class:`alignshift.models.sync_norm.SyncBatchNorm2d`. Names and weights stay as they are.

    Args:
        model: Changed in place.
    """
    left = 0
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats:
                setattr(parent, name, _synchronized(norm, isinstance(parent, DenseLayer)))
            elif isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm):
                left += 1
    if left:
        print_log(
            f"{left} batch norms are of a kind that cannot be synchronized: they are normalized "
            "per process",
            logger="current",
            level=logging.WARNING,
        )


def _synchronized(norm: nn.BatchNorm2d, fused: bool) -> nn.Module:
    if norm.weight.is_cuda and not fused:
        on_gpu: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
        return on_gpu
    return SyncBatchNorm2d.of(norm)


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
