"""Tests of memory for stacks and for many small objects."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from deeplesion.datasets.memory import (
    HUGE_PAGE,
    SMALLEST_PIECE,
    StackMemory,
    collection_paused,
    empty_stack,
)

SHAPE = (3, 512, 512)  # of 16 bit, 1.5 MB


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("shape", [(7, 512, 512), (3, 512, 700), (2, 5, 4), (0, 5, 4)])
def test_it_is_an_array_like_any_other(shape: tuple[int, ...], dtype: type) -> None:
    stack = empty_stack(shape, dtype)
    assert (stack.shape, stack.dtype) == (shape, dtype)
    assert stack.flags.c_contiguous
    assert stack.flags.writeable
    stack[:] = 3
    assert (stack == 3).all()


def test_a_large_one_begins_on_a_huge_page() -> None:
    for _ in range(3):
        assert empty_stack((7, 512, 512), np.float32).ctypes.data % HUGE_PAGE == 0


def test_memory_is_used_again_once_the_last_that_refers_to_it_is_gone() -> None:
    memory = StackMemory()
    stack = memory.empty(SHAPE, np.int16)
    address = stack.ctypes.data
    for keep in (
        lambda stack: stack[1:, ::2].transpose(1, 2, 0),
        lambda stack: stack.view(np.uint8).reshape(-1)[:1],
        torch.from_numpy,
        lambda stack: torch.from_numpy(stack)[0, 3:],
        memoryview,
    ):
        holder = keep(stack)
        del stack
        assert memory.kept_bytes == 0
        assert memory.empty(SHAPE, np.int16).ctypes.data != address
        other = memory.empty(SHAPE, np.int16)
        del holder
        stack = memory.empty(SHAPE, np.int16)
        assert stack.ctypes.data == address
        del other
        memory._kept.clear()


def test_no_two_arrays_in_use_share_memory() -> None:
    memory, random = StackMemory(most_kept=4 * SMALLEST_PIECE), np.random.default_rng(0)
    in_use: dict[int, np.ndarray] = {}
    for number in range(300):
        rows = int(random.integers(1, 5)) * 256
        in_use[number] = memory.empty((rows, 512), np.int16)
        in_use[number].fill(number)
        assert all((stack == n).all() for n, stack in in_use.items())
        for gone in random.permutation(list(in_use))[: len(in_use) - 3]:
            del in_use[int(gone)]
        assert memory.kept_bytes <= 4 * SMALLEST_PIECE


def test_only_so_much_is_kept_and_of_the_latest_sizes() -> None:
    memory = StackMemory(most_kept=4 * SMALLEST_PIECE)
    del (held := [memory.empty((SMALLEST_PIECE,), np.uint8) for _ in range(4)])[:]
    assert memory.kept_bytes == 4 * SMALLEST_PIECE
    memory.empty((3 * SMALLEST_PIECE,), np.uint8)
    assert memory.kept_bytes == 3 * SMALLEST_PIECE
    memory.empty((5 * SMALLEST_PIECE,), np.uint8)
    assert memory.kept_bytes == 0
    memory.empty((SMALLEST_PIECE - 1,), np.uint8)
    assert memory.kept_bytes == 0
    assert not held


@pytest.mark.parametrize("was_on", [True, False])
def test_collection_is_as_it_was_after_a_pause_that_failed(was_on: bool) -> None:
    @collection_paused()
    def fail() -> None:
        raise KeyError(gc.isenabled())

    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(KeyError, match="False"):
            fail()
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
