"""Batches that fit."""

from __future__ import annotations

import pytest
import torch

from deeplesion.inference import memory

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_free_memory_is_told() -> None:
    assert memory.free_memory(CPU) > 1 << 20


@pytest.mark.parametrize(("gigabytes", "expected"), [(0.1, 1), (2, 1), (8, 2), (1000, 16)])
def test_as_many_as_fit_but_not_more_than_help(
    monkeypatch: pytest.MonkeyPatch, gigabytes: float, expected: int
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: int(gigabytes * 1e9))
    assert memory.choose_batch_size(7 * 512 * 512, GPU) == expected
    assert memory.choose_batch_size(7 * 512 * 512, CPU) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (MemoryError(), True),
        (RuntimeError("sizes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_lack_of_memory(error: BaseException, expected: bool) -> None:
    assert memory.is_out_of_memory(error) is expected
