"""Batches that fit."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
import torch

from deeplesion.inference import memory
from tests.conftest import REPO_ROOT
from tests.forked import python

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


def test_malloc_is_told_where_it_can_be() -> None:
    code = "from deeplesion.inference.memory import keep_freed_memory as k; print(k())"
    result = subprocess.run(
        [python(), "-c", code], capture_output=True, text=True, check=True, cwd=REPO_ROOT
    )
    assert result.stdout.strip() in ("True", "False")


@pytest.mark.parametrize(
    ("largest", "trims", "expected"),
    [
        (1 << 31, True, {-1: memory.NEVER, -3: memory.NEVER}),
        (1 << 25, True, {-1: memory.NEVER, -3: 1 << 25}),
        (0, True, {-1: memory.NEVER}),
        (1 << 31, False, {-3: memory.NEVER}),
    ],
)
def test_malloc_is_told_all_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, largest: int, trims: bool, expected: dict[int, int]
) -> None:
    told: dict[int, int] = {}

    def mallopt(option: int, value: int) -> int:
        taken = trims if option == memory.M_TRIM_THRESHOLD else value <= largest
        if taken:
            told[option] = value
        return int(taken)

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert memory.keep_freed_memory() is (len(expected) == 2)
    assert told == expected


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
