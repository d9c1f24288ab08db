"""What of a machine the processes of a run share."""

from __future__ import annotations

import os

from mmengine.dist import get_world_size


def usable_cores() -> int:
    """Logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_processes() -> int:
    """Processes of the run on this machine, as torchrun and Slurm tell."""
    told = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE", "")
    return int(told) if told.isdigit() else get_world_size()
