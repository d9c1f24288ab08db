"""Beginning in the middle of a pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader, Sampler

from deeplesion.datasets.samplers import CTSampler
from deeplesion.engine.loops import begin_at, is_infinite


class Counted(list):
    """A data set that counts what is loaded."""

    loaded = 0

    def __getitem__(self, index: Any) -> int:
        self.loaded += 1
        return int(index)


class Pairs(Sampler):
    """A batch sampler that skips by itself."""

    def __init__(self, infinite: bool = False) -> None:
        self.infinite, self.skipped, self.epoch = infinite, 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def skip(self, batches: int) -> None:
        self.skipped = batches

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        first, self.skipped = self.skipped, 0
        return iter([[i, self.epoch] for i in range(first, 4)])


def batches(loader: DataLoader, epoch: int, batch: int, number: int = 9) -> list[list[int]]:
    return [one.tolist() for one in islice(begin_at(loader, epoch, batch), number)]


@pytest.mark.parametrize("infinite", [False, True])
def test_begins_there_without_loading_what_was_before(infinite: bool) -> None:
    data = Counted(range(10))
    loader = DataLoader(data, 3, sampler=CTSampler(data, seed=0, infinite=infinite))
    whole = batches(loader, 0, 0, 8)
    data.loaded = 0
    found = batches(loader, 0, 2, 6)
    assert found == whole[2:]
    assert data.loaded == sum(map(len, found))
    assert is_infinite(loader) == infinite


def test_sets_the_epoch() -> None:
    data = Counted(range(10))
    loader = DataLoader(data, 2, sampler=CTSampler(data, seed=0))
    first, second = batches(loader, 0, 0), batches(loader, 1, 0)
    assert first != second
    assert batches(loader, 1, 3) == second[3:]


def test_batch_samplers_skip_batches() -> None:
    loader = DataLoader(Counted(range(10)), batch_sampler=Pairs())
    assert batches(loader, 7, 2) == [[2, 7], [3, 7]]
    assert batches(loader, 7, 0) == [[i, 7] for i in range(4)]
    assert not is_infinite(loader)
    assert is_infinite(DataLoader(Counted(range(10)), batch_sampler=Pairs(infinite=True)))


def test_others_are_loaded_in_vain_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    MMLogger.get_instance("loops", log_level="WARNING").addHandler(caplog.handler)
    data = Counted(range(10))
    loader = DataLoader(data, 2, sampler=DefaultSampler(data, seed=0))
    whole = batches(loader, 1, 0)
    with caplog.at_level(logging.WARNING):
        assert batches(loader, 1, 3) == whole[3:]
    assert "DefaultSampler cannot skip: 3 batches are loaded in vain" in caplog.text


def test_knows_that_mmengines_infinite_sampler_is() -> None:
    data = Counted(range(10))
    assert is_infinite(DataLoader(data, sampler=InfiniteSampler(data, seed=0)))
