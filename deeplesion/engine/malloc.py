"""What becomes of memory that is freed."""

from __future__ import annotations

import ctypes

# Options of mallopt(3), and sizes beyond those of any map of a network.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = (1 << 31) - 1
# What older versions of glibc take for the second.
LARGEST_THRESHOLD = 1 << 25


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed for the next layer, in this process from now on.

    Else glibc gives every large map of a network back to the system, which fills it with zeros
    before it gives it out again: a fifth of the time of a DenseNet on a CPU. For programs; a
    library should not decide that for the process that it is in.

    Returns:
        Whether malloc could be told; only glibc's can.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # Both, whatever comes of the first.
    kept = mallopt(M_TRIM_THRESHOLD, NEVER) == 1
    mapped = any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in (NEVER, LARGEST_THRESHOLD))
    return kept and mapped
