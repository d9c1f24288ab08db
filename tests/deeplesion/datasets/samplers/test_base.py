"""Tests of draws and of the sampler that makes them."""

from __future__ import annotations

import copy
import pickle
import random
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet")

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import ConcatDataset, RepeatDataset

import deeplesion  # noqa: F401
from deeplesion.datasets.samplers import CTSampler, Draw
from deeplesion.datasets.samplers.base import seed_cpu, seed_of, seeded_by


def sampler(
    size: int, rank: int = 0, processes: int = 1, seed: int = 5, **kwargs: bool
) -> CTSampler:
    """What one of some processes has."""
    made = CTSampler(range(size), seed=seed, **kwargs)
    made.rank, made.world_size = rank, processes
    return made


def drawn(draws: CTSampler, number: int | None = None) -> list[tuple[int, int]]:
    """Indices and seeds of the first draws."""
    return [(int(draw), draw.seed) for draw in islice(draws, number)]


def random_numbers() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_draw_is_an_index_that_keeps_its_seed_on_the_way_to_a_worker() -> None:
    draw = Draw(3, 2**63 + 7)
    assert [10, 11, 12, 13][draw] == 13
    assert repr(draw) == "Draw(3, seed=9223372036854775815)"
    draw = Draw(3, 2**63 + 7, 5)
    for copied in (pickle.loads(pickle.dumps(draw)), copy.deepcopy(draw), copy.copy(draw)):
        assert (copied, copied.seed, copied.step_seed) == (3, 2**63 + 7, 5)
        assert type(copied) is Draw


def test_draw_keeps_its_seed_in_wrapped_data_sets() -> None:
    class Told(list):
        """A data set of the seeds that it was asked with."""

        metainfo: dict = {}  # noqa: RUF012

        def __getitem__(self, index: int) -> tuple[int, int | None]:
            return int(index), getattr(index, "seed", None)

        def full_init(self) -> None:
            """Nothing to read."""

    wrapped = ConcatDataset.__new__(ConcatDataset)
    wrapped._fully_initialized = True
    wrapped.datasets, wrapped.cumulative_sizes = [Told(range(4)), Told(range(4))], [4, 8]
    assert wrapped[Draw(2, 9)] == (2, 9)
    assert wrapped[Draw(6, 9)] == (2, 9)
    repeated = RepeatDataset.__new__(RepeatDataset)
    repeated._fully_initialized = True
    repeated.dataset, repeated._ori_len = Told(range(4)), 4
    assert repeated[Draw(7, 9)] == (3, 9)


@pytest.mark.parametrize("infinite", [False, True])
def test_samples_of_a_step_share_a_seed_on_any_number_of_processes(infinite: bool) -> None:
    def seeds(processes: int, batch_size: int) -> list[list[int | None]]:
        """The seeds of each step, four samples in all."""
        steps: list[list[int | None]] = [[] for _ in range(5)]
        for rank in range(processes):
            own = sampler(10, rank=rank, processes=processes, infinite=infinite)
            own.batch_size = batch_size
            own.set_epoch(1)
            draws = [draw.step_seed for draw in islice(own, 20 // processes)]
            for number, seed in enumerate(draws):
                steps[number // batch_size].append(seed)
        return steps

    whole = seeds(1, 4)
    assert all(len(set(step)) == 1 for step in whole if step)
    # Ten samples are three steps of a pass, or two and a half.
    assert len({step[0] for step in whole if step}) == (5 if infinite else 3)
    assert [set(step) for step in seeds(4, 1)] == [set(step) for step in whole]
    assert [set(step) for step in seeds(2, 2)] == [set(step) for step in whole]


def test_steps_are_unknown_where_nobody_told_the_batch_size() -> None:
    assert {draw.step_seed for draw in sampler(10)} == {None}


def test_a_step_that_was_skipped_to_has_the_same_seed() -> None:
    own = sampler(10)
    own.batch_size = 2
    expected = [draw.step_seed for draw in own]
    own.skip(4)
    assert [draw.step_seed for draw in own] == expected[4:]


def test_the_same_seed_gives_the_same_numbers_and_leaves_those_outside_alone() -> None:
    seed_cpu(1)
    expected = [random_numbers() for _ in range(2)]
    seed_cpu(1)
    found = [random_numbers()]
    with seeded_by(Draw(0, 2**64 - 1)):
        inside = random_numbers()
    found.append(random_numbers())
    with seeded_by(Draw(5, 2**64 - 1)):
        assert random_numbers() == inside
    assert found == expected
    assert len({number for three in [*expected, inside] for number in three}) == 9


def test_states_are_put_back_after_an_error() -> None:
    seed_cpu(1)
    expected = random_numbers()
    seed_cpu(1)
    with pytest.raises(KeyError), seeded_by(Draw(0, 3)):
        raise KeyError
    assert random_numbers() == expected


def test_a_plain_index_seeds_nothing() -> None:
    seed_cpu(1)
    expected = random_numbers()
    seed_cpu(1)
    with seeded_by(4):
        assert random_numbers() == expected


def test_is_registered_and_takes_the_seed_of_the_run() -> None:
    built = DATA_SAMPLERS.build({"type": "CTSampler"}, default_args={"dataset": [0], "seed": 8})
    assert built.seed == 8


def test_every_epoch_has_an_order_of_its_own_that_comes_again() -> None:
    draws = sampler(20)
    first = drawn(draws)
    draws.set_epoch(1)
    second = drawn(draws)
    draws.set_epoch(0)
    assert drawn(draws) == first
    assert [index for index, _ in first] != [index for index, _ in second]
    assert {index for index, _ in first} == {index for index, _ in second} == set(range(20))
    assert len({seed for _, seed in first + second}) == 40
    assert drawn(sampler(20, seed=6)) != first


def test_evaluation_goes_in_the_order_of_the_data_set() -> None:
    assert [int(draw) for draw in sampler(5, shuffle=False)] == [0, 1, 2, 3, 4]
    assert [int(draw) for draw in sampler(5, 1, 2, shuffle=False)] == [1, 3, 0]


@settings(deadline=None, max_examples=50)
@given(
    size=st.integers(1, 12),
    processes=st.integers(1, 5),
    infinite=st.booleans(),
    skipped=st.integers(0, 15),
)
def test_processes_share_one_order_and_can_begin_later(
    size: int, processes: int, infinite: bool, skipped: int
) -> None:
    number = 20 if infinite else None
    ranks = [sampler(size, rank, processes, infinite=infinite) for rank in range(processes)]
    shares = [drawn(of_rank, number) for of_rank in ranks]
    if not infinite:
        assert {len(share) for share in shares} == {len(ranks[0])} == {-(-size // processes)}
    together = [draw for places in zip(*shares, strict=True) for draw in places]
    alone = drawn(sampler(size, infinite=infinite), len(together) if infinite else None)
    assert together[: len(alone)] == alone
    assert [i for i, _ in together[len(alone) :]] == [
        alone[place % size][0] for place in range(len(alone), len(together))
    ]
    for of_rank, share in zip(ranks, shares, strict=True):
        of_rank.skip(skipped)
        assert (
            drawn(of_rank, number)[: len(share)][: max(0, len(share) - skipped)] == share[skipped:]
        )
        assert drawn(of_rank, number) == share


def test_an_infinite_one_counts_its_passes_itself() -> None:
    endless = sampler(4, infinite=True)
    expected = drawn(endless, 10)
    endless.set_epoch(1)
    assert drawn(endless, 10) == expected
    assert len(endless) == 4
    finite = sampler(4)
    finite.set_epoch(1)
    assert expected[4:8] == drawn(finite)


def test_a_subclass_chooses_the_order_alone() -> None:
    class Twice(CTSampler):
        def order(self, epoch: int) -> list[int]:
            return [epoch, *range(len(self.dataset))] * 2

    twice = Twice(range(2), seed=0)
    twice.set_epoch(1)
    assert [int(draw) for draw in twice] == [1, 0, 1, 1, 0, 1]
    assert len(twice) == 6


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="num_samples must be >= 0, got -1"):
        sampler(4).skip(-1)
    with pytest.raises(ValueError, match="without samples"):
        next(iter(sampler(0, infinite=True)))
    assert drawn(sampler(0)) == []


def test_seeds_of_near_positions_are_unrelated() -> None:
    seeds = [seed_of(0, epoch, place) for epoch in range(3) for place in range(100)]
    assert len(set(seeds)) == 300
    ones = sum(bin(a ^ b).count("1") for a, b in pairwise(seeds)) / 299
    assert 28 < ones < 36
