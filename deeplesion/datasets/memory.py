"""Memory: for whole stacks of slices, which come in large pieces, and for many small objects."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Size of a huge page on x86-64 and most ARM systems, in bytes.
HUGE_PAGE = 1 << 21
#: Smaller pieces are left to malloc, which keeps them by itself.
SMALLEST_PIECE = 1 << 18
#: What a process keeps of memory that is not in use, in bytes: some eight stacks of 7 x 512 x 512.
MOST_KEPT = 1 << 26

Piece = NDArray[np.uint8]


class StackMemory:
    """Memory for stacks of slices, used again as soon as nothing refers to a stack any more.

    A stack of 7 x 512 x 512 px is 7 MB in float32. What malloc gets of that size it asks of the
    system and gives back, and the system clears and maps every page of it, for each of the three
    or four stacks that a sample passes through. Pieces are kept here instead, by size.

    An array holds its piece by its base, as do views, tensors and whatever else refers to it, and
    the piece returns when the last of them is gone. Threads may share a memory; a forked process
    has its own, the pieces of which the system copies when they are written to.

    Args:
        most_kept: Bytes that are kept at most while they are not in use.
    """

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        self.most_kept = most_kept
        self._kept: dict[int, list[Piece]] = {}

    @property
    def kept_bytes(self) -> int:
        """What is kept and not in use."""
        return sum(size * len(pieces) for size, pieces in list(self._kept.items()))

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """As ``np.empty``, but in memory that is used again; a large array begins on a huge page.

        Args:
            shape: Of the array.
            dtype: Of the array.

        Returns:
            Contiguous, its values whatever they are.
        """
        count = math.prod(shape) * np.dtype(dtype).itemsize
        if count < SMALLEST_PIECE:
            return np.empty(shape, dtype)
        size = math.ceil(count / SMALLEST_PIECE) * SMALLEST_PIECE
        try:
            piece = self._kept[size].pop()
        except (KeyError, IndexError):
            piece = _new_piece(size)
        # By its buffer, for numpy has views of views refer to the array at the bottom.
        lent = np.frombuffer(piece.data, np.uint8)
        weakref.finalize(lent, self._keep, piece).atexit = False
        return lent[:count].view(dtype).reshape(shape)

    def _keep(self, piece: Piece) -> None:
        if self.kept_bytes + piece.nbytes > self.most_kept:
            self._kept.clear()  # of sizes, maybe, that nobody asks for any more
        if piece.nbytes <= self.most_kept:
            self._kept.setdefault(piece.nbytes, []).append(piece)


def _new_piece(size: int) -> Piece:
    """Bytes; many begin on a huge page, so that they consist of these where numpy asks for them."""
    if size < HUGE_PAGE:
        return np.empty(size, np.uint8)
    raw = np.empty(size + HUGE_PAGE, np.uint8)
    begin = -raw.ctypes.data % HUGE_PAGE
    return raw[begin : begin + size]


#: Of all stacks of the process.
empty_stack = StackMemory().empty


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
