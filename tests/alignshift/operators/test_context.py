"""What converted layers know of the volume in hand."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch

from alignshift.operators.context import SliceContext, SliceFrame

FRAME = SliceFrame(batch=2, depth=3, thickness=None)


def test_entering_and_going_back() -> None:
    context = SliceContext()
    assert context.enter(FRAME) is None
    assert context.frame_of(torch.zeros(6, 1, 2, 2), "") is FRAME
    assert context.enter(None) is FRAME


def test_threads_do_not_see_each_other() -> None:
    context, seen = SliceContext(), []
    context.enter(FRAME)
    thread = threading.Thread(target=lambda: seen.append(context.frame))
    thread.start()
    thread.join()
    assert seen == [None]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_begin_anew(duplicate: object) -> None:
    context = SliceContext()
    context.enter(FRAME)
    other = duplicate(context)  # type: ignore[operator]
    assert type(other) is SliceContext
    assert other.frame is None


def test_a_layer_alone_is_told_to_use_the_network() -> None:
    with pytest.raises(RuntimeError, match=r"layer a\.b of .* called by itself: call the network"):
        SliceContext().frame_of(torch.zeros(6, 1, 2, 2), "a.b")


@pytest.mark.parametrize("shape", [(5, 1, 2, 2), (6, 1, 2), (2, 1, 3, 2, 2)])
def test_slices_must_be_folded(shape: tuple[int, ...]) -> None:
    context = SliceContext()
    context.enter(FRAME)
    with pytest.raises(ValueError, match=r"layer a\.b .* N = 2, D = 3, got \(.*skip=\['a\.b'\]"):
        context.frame_of(torch.zeros(shape), "a.b")


def test_layers_share_memory_until_the_forward_ends() -> None:
    context = SliceContext()
    context.enter(FRAME)
    x = torch.rand(2, 4, 3, 5, 5).to(memory_format=torch.channels_last_3d)
    large = context.scratch_like(x)
    small = context.scratch_like(x[:, :2, :2].contiguous(memory_format=torch.channels_last_3d))
    assert (large.shape, large.stride()) == (x.shape, x.stride())
    assert small.data_ptr() == large.data_ptr()
    assert context.scratch_like(x.double()).dtype == torch.float64
    kept = context.scratch_like(x)
    context.enter(None)
    assert context.scratch_like(x).data_ptr() != kept.data_ptr()
