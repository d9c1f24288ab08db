"""Tests of stacks whose slices lie whole in memory."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.transforms.planes import as_planes, as_stack


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_there_and_back_without_a_copy(depth: int) -> None:
    planes = np.arange(depth * 20, dtype=np.float32).reshape(depth, 5, 4)
    stack = as_stack(planes)
    assert stack.shape == (5, 4, depth)
    assert np.array_equal(stack[..., -1], planes[-1])
    assert np.shares_memory(as_planes(stack), planes)


def test_other_layouts_are_copied() -> None:
    stack = np.arange(60).reshape(5, 4, 3)
    planes = as_planes(stack)
    assert planes.flags.c_contiguous
    assert np.array_equal(planes[2], stack[..., 2])
    assert np.array_equal(as_planes(stack[:, ::-1])[1], stack[:, ::-1, 1])


def test_one_slice_without_a_depth() -> None:
    plane = np.arange(20).reshape(5, 4)
    assert np.array_equal(as_planes(plane), plane[None])
