"""Stacks of slices ``(H, W, D)`` whose slices lie whole in memory, one after another.

Loaded so, a stack is windowed, moved and packed slice by slice without being taken apart and put
together again, and ``PackDetInputs`` finds it as networks take it, ``(D, H, W)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_planes(stack: NDArray[Any]) -> NDArray[Any]:
    """The slices of a stack.

    Args:
        stack: ``(H, W, D)``, or ``(H, W)`` for one slice.

    Returns:
        ``(D, H, W)``, contiguous; no copy where slices lie whole in memory.
    """
    return np.ascontiguousarray(np.atleast_3d(stack).transpose(2, 0, 1))


def as_stack(planes: NDArray[Any]) -> NDArray[Any]:
    """``(D, H, W)`` slices as a stack, a view ``(H, W, D)``."""
    return planes.transpose(1, 2, 0)
