"""Tests of batches of one thickness group."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet")

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

import deeplesion  # noqa: F401
from deeplesion.datasets.samplers import CTSampler, RepeatFactorSampler, ThicknessBatchSampler
from deeplesion.datasets.samplers.sample_table import SamplingError, thickness_groups
from tests.deeplesion.datasets.samplers.described import INTERVALS_MM, Described, as_process

SAMPLERS = {"plain": CTSampler, "repeating": RepeatFactorSampler}
INTERVALS = st.lists(st.sampled_from(INTERVALS_MM), min_size=1, max_size=40).filter(
    lambda intervals: not all(map(math.isnan, intervals))
)
KINDS = st.sampled_from(list(SAMPLERS))
Seeded = list[list[tuple[int, int]]]
FEW = settings(max_examples=25, deadline=None)


def batches_of(
    intervals: list[float],
    kind: str = "plain",
    size: int = 2,
    rank: int = 0,
    processes: int = 1,
    infinite: bool = False,
    epoch: int = 0,
) -> ThicknessBatchSampler:
    """What one of some processes has."""
    sampler = SAMPLERS[kind](Described(intervals), seed=7, infinite=infinite)
    made = ThicknessBatchSampler(as_process(sampler, rank, processes), size)
    made.set_epoch(epoch)
    return made


def seeded(batches: ThicknessBatchSampler, number: int | None = None) -> Seeded:
    """Indices and seeds of the first batches."""
    return [[(int(draw), draw.seed) for draw in batch] for batch in islice(batches, number)]


@FEW
@given(INTERVALS, KINDS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_a_pass_on_any_number_of_processes(
    intervals: list[float], kind: str, size: int, processes: int, epoch: int
) -> None:
    shared = dict(intervals=intervals, kind=kind, epoch=epoch)
    made = [batches_of(size=size, rank=r, processes=processes, **shared) for r in range(processes)]
    parts = [seeded(one) for one in made]
    # As many batches on every process, as said before, and of the full size.
    assert {len(part) for part in parts} == {len(made[0])}
    assert {len(batch) for part in parts for batch in part} == {size}
    # Groups do not mix, over all processes.
    groups = thickness_groups(np.array(intervals))
    steps = [[draw for batch in step for draw in batch] for step in zip(*parts, strict=True)]
    assert all(len({groups[index] for index, _ in step}) == 1 for step in steps)
    # One process with a larger batch draws the same.
    alone = seeded(batches_of(size=size * processes, **shared))
    assert [sorted(step) for step in steps] == [sorted(step) for step in alone]
    # Nothing is lost; what comes on top is padding.
    drawn = Counter(index for step in steps for index, _ in step)
    order = Counter(made[0].sampler.order(epoch))
    assert set(drawn) == set(range(len(intervals)))
    assert drawn >= order
    width, present = size * processes, len(set(groups.tolist()))
    assert drawn.total() - order.total() < present * width * (1 if kind == "plain" else 2)
    # No two draws have the same randomness, and another iteration has the same.
    seeds = [seed for step in steps for _, seed in step]
    assert len(set(seeds)) == len(seeds)
    assert [seeded(one) for one in made] == parts


@FEW
@given(INTERVALS, KINDS, st.integers(0, 30), st.booleans())
def test_skipping_drops_what_was_drawn(
    intervals: list[float], kind: str, number: int, infinite: bool
) -> None:
    shared = dict(intervals=intervals, kind=kind, rank=1, processes=2, infinite=infinite)
    whole = seeded(batches_of(**shared), number + 12)
    skipping = batches_of(**shared)
    skipping.skip(number)
    assert seeded(skipping, 12) == whole[number:]
    # Once only.
    assert seeded(skipping, 12) == whole[:12]


def test_passes_follow_each_other_without_end() -> None:
    intervals = [1.0] * 5 + [5.0] * 4
    passes = [seeded(batches_of(intervals, epoch=epoch)) for epoch in (0, 1)]
    assert len(passes[0]) == 5
    assert passes[0] != passes[1]
    assert seeded(batches_of(intervals, infinite=True), 10) == passes[0] + passes[1]


def test_groups_come_in_random_order_and_rests_are_filled_from_their_own() -> None:
    batches = batches_of([1.0] * 30 + [5.0] * 3, size=4)
    steps = [[int(draw) for draw in batch] for batch in batches]
    thick = [set(step) for step in steps if max(step) >= 30]
    assert thick == [{30, 31, 32}]
    places = set()
    for epoch in range(5):
        batches.set_epoch(epoch)
        places.add(next(i for i, batch in enumerate(batches) if max(batch) >= 30))
    assert len(places) > 1


def test_batches_that_are_not_shuffled_come_group_by_group() -> None:
    sampler = CTSampler(Described([5.0, 1.0, 5.0, 1.0, 1.0]), shuffle=False, seed=0)
    assert list(ThicknessBatchSampler(sampler, 2)) == [[1, 3], [4, 1], [0, 2]]


def test_passes_of_a_repeating_sampler_are_equally_long() -> None:
    batches = batches_of([1.0] * 20 + [3.0] * 3 + [5.0] * 11, "repeating", size=3)
    lengths = set()
    for epoch in range(20):
        batches.set_epoch(epoch)
        lengths.add(len(list(batches)))
    assert lengths == {len(batches)}


def test_dataloader_takes_it() -> None:
    class Numbers(Described):
        def __getitem__(self, index: int) -> float:
            return self.intervals[index]

    sampler = CTSampler(Numbers([1.0, 5.0, 1.5, 6.0]), seed=0)
    batch_sampler = DATA_SAMPLERS.build(
        dict(type="ThicknessBatchSampler", edges=(2, 5)),
        default_args=dict(sampler=sampler, batch_size=2),
    )
    loader = DataLoader(sampler.dataset, batch_sampler=batch_sampler)
    assert len(loader) == 2
    assert sorted(sorted(batch.tolist()) for batch in loader) == [[1.0, 1.5], [5.0, 6.0]]


def test_what_it_cannot_do_is_an_error() -> None:
    plain = CTSampler(Described([1.0]), seed=0)
    with pytest.raises(
        SamplingError, match=r"sampler=dict\(type='CTSampler'\).* got DefaultSampler"
    ):
        ThicknessBatchSampler(DefaultSampler(Described([1.0]), seed=0), 2)
    with pytest.raises(SamplingError, match="batch_size must be >= 1, got 0"):
        ThicknessBatchSampler(plain, 0)
    with pytest.raises(SamplingError, match="edges must be"):
        ThicknessBatchSampler(plain, 2, edges=[0])
    with pytest.raises(ValueError, match="num_batches must be >= 0, got -1"):
        ThicknessBatchSampler(plain, 2).skip(-1)
    empty = ThicknessBatchSampler(CTSampler(Described([]), seed=0, infinite=True), 2)
    assert len(empty) == 0
    with pytest.raises(ValueError, match="no end of a data set without samples"):
        next(iter(empty))
