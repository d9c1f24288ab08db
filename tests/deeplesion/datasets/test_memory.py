"""Tests of memory for stacks and for many small objects."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from deeplesion.datasets.memory import HUGE_PAGE, collection_paused, empty_stack


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
