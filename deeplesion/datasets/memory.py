"""Memory: for whole stacks of slices, which come in large pieces, and for many small objects."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Size of a huge page on x86-64 and most ARM systems, in bytes.
HUGE_PAGE = 1 << 21


def empty_stack(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
    """As ``np.empty``, but what is larger than a huge page begins on one.

    A stack of 7 x 512 x 512 px is 7 MB in float32: some 1,800 pages of 4 kB, which the system
    clears and maps one by one when they are first written to, in more time than decoding takes.
    Numpy asks for huge pages where an array is large enough; beginning on one, it consists of them.

    Args:
        shape: Of the array.
        dtype: Of the array.

    Returns:
        Contiguous, its values whatever they are.
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    if count < HUGE_PAGE:
        return np.empty(shape, dtype)
    raw = np.empty(math.ceil(count / HUGE_PAGE + 1) * HUGE_PAGE, np.uint8)
    begin = -raw.ctypes.data % HUGE_PAGE
    return raw[begin : begin + count].view(dtype).reshape(shape)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Keep Python from looking for cycles while very many small objects are made.

    It looks through all that there are after every few hundred new ones. Objects without cycles,
    as the rows of a table are, are freed without it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
