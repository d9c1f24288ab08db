"""Chunks and shared memory of a block."""

from __future__ import annotations

import pytest
import torch

from alignshift.models import workspace
from alignshift.models.workspace import Workspace


@pytest.mark.parametrize(
    ("chunk_bytes", "sizes"),
    [
        (1, [(1, 1)] * 15),  # a row at least
        (2 * 3 * 4 * 8 * 4, [(1, 2), (1, 2), (1, 1)] * 3),
        (2 * 5 * 3 * 4 * 8 * 4, [(2, 5), (1, 5)]),  # stacks as a whole, several at a time
        (1 << 20, [(3, 5)]),
    ],
)
def test_chunks_are_rows_or_stacks(
    chunk_bytes: int, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "CHUNK_BYTES", chunk_bytes)
    space = Workspace(torch.empty(9, 1, 5, 4), depth=3)
    visits, found = space.volume(8).zero_(), []
    for place in space.chunks(8):
        visits[place] += 1
        found.append((visits[place].shape[0], visits[place].shape[2]))
    assert found == sizes
    assert bool((visits == 1).all())


def test_other_devices_work_on_all_at_once() -> None:
    space = Workspace(torch.empty(6, 1, 5, 4, device="meta"), depth=3)
    assert list(space.chunks(1 << 30)) == [(slice(2), slice(3), slice(5))]


def test_memory_of_a_name_is_shared_until_it_is_forgotten() -> None:
    space = Workspace(torch.empty(6, 1, 5, 4, dtype=torch.bfloat16), depth=3)
    large, small = space.shared("a", (6, 7)), space.shared("a", (2, 3))
    assert large.data_ptr() == small.data_ptr()
    assert space.shared("b", (6, 7)).data_ptr() != large.data_ptr()
    assert small.shape == (2, 3)
    assert small.dtype == torch.bfloat16
    assert space.zeros(2).dtype == torch.float32
    space.clear()
    assert space.shared("a", (6, 7)).data_ptr() != large.data_ptr()


def test_dense_tensors_stand_for_themselves() -> None:
    space = Workspace(torch.empty(6, 1, 5, 4), depth=3)
    volume = space.volume(8)
    assert space.dense("a", volume) is volume
    part = space.dense("a", volume[:, :, 1:3])
    assert part.is_contiguous()
    assert part.shape == (2, 3, 2, 4, 8)
