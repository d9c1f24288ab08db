"""Memory: how many key slices go through the network at once."""

from __future__ import annotations

import os

import torch

# Peak bytes of a forward pass for each voxel of a stack, rounded up: about 700 were measured of
# the DenseNet-121 detector (7 x 512 x 512, float32, CPU).
BYTES_PER_VOXEL = 1000
# Of what is free, for others need some, too.
SHARE_OF_FREE = 0.5
# More are not faster: two cores are busy with one stack, and caches hold no more.
MOST_ON_CPU, MOST_ON_GPU = 1, 16
OUT_OF_MEMORY_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def free_memory(device: torch.device) -> int:
    """Bytes that may be allocated on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            fields = dict(line.split(":") for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def choose_batch_size(voxels: int, device: torch.device) -> int:
    """How many stacks fit.

    Args:
        voxels: Of one stack, padded.
        device: Where the network is.

    Returns:
        At least 1. Should it be too many after all, :func:`is_out_of_memory` tells.
    """
    most = MOST_ON_CPU if device.type == "cpu" else MOST_ON_GPU
    fitting = int(SHARE_OF_FREE * free_memory(device) / (voxels * BYTES_PER_VOXEL))
    return min(max(fitting, 1), most)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in OUT_OF_MEMORY_WORDS
    )
