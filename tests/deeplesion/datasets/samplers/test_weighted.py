"""Tests of samplers that draw some samples more often than others."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet")

from mmdet.registry import DATA_SAMPLERS

import deeplesion  # noqa: F401
from deeplesion.datasets.samplers import ClassBalancedSampler, RepeatFactorSampler
from deeplesion.datasets.samplers.sample_table import SamplingError
from deeplesion.datasets.samplers.weighted import (
    balanced_counts,
    repeat_factors,
    rounded_at_random,
)
from tests.deeplesion.datasets.samplers.described import (
    INTERVALS_MM,
    Described,
    as_process,
    lesion,
    of_types,
)

INTERVALS = st.lists(st.sampled_from(INTERVALS_MM[:-1]), min_size=1, max_size=40)
TYPES = st.lists(st.sampled_from([-1, 1, 2, 5]), min_size=1, max_size=40).filter(
    lambda types: any(t > 0 for t in types)
)
EPOCHS = st.integers(0, 5)
FEW = settings(max_examples=25, deadline=None)


def draws_of(order: list[int], size: int) -> list[int]:
    """How often each sample is drawn."""
    return np.bincount(order, minlength=size).tolist()


def test_repeat_factors_are_those_of_lvis() -> None:
    # Class 0 in 8 of 10 samples, class 1 in 2 (in one of them twice), class 2 in 1 of those.
    samples = np.array([*range(8), 8, 8, 9, 9])
    classes = np.array([*[0] * 8, 1, 1, 1, 2])
    factors = repeat_factors(samples, classes, 10, threshold=0.4)
    np.testing.assert_allclose(factors, [*[1.0] * 8, math.sqrt(2), 2.0])


def test_balanced_classes_share_a_pass_evenly() -> None:
    samples, classes = np.arange(8), np.array([*[3] * 6, 5, 7])
    counts = balanced_counts(samples, classes, 9, power=1.0)
    # Eight draws among three classes; the ninth sample has none and is drawn as ever.
    np.testing.assert_allclose(counts, [*[8 / 18] * 6, 8 / 3, 8 / 3, 1])
    np.testing.assert_allclose(balanced_counts(samples, classes, 9, power=0.0), 1)


def test_a_sample_weighs_as_its_lesions_on_average() -> None:
    counts = balanced_counts(np.array([0, 0, 1, 2]), np.array([1, 2, 1, 1]), 3, power=1.0)
    weights = np.array([(1 / 3 + 1) / 2, 1 / 3, 1 / 3])
    np.testing.assert_allclose(counts, 3 * weights / weights.sum())


@FEW
@given(st.lists(st.floats(0, 5, allow_subnormal=False), min_size=1, max_size=50), st.integers(0, 9))
def test_rounding_keeps_the_sum_and_every_number_within_one(values: list, seed: int) -> None:
    total = math.ceil(sum(values) + 1e-9)
    expected = np.array(values) * (total / sum(values)) if sum(values) else np.ones(len(values))
    total = total if sum(values) else len(values)
    strata = np.arange(len(values)) % 3
    counts = rounded_at_random(expected, total, strata, np.random.default_rng(seed))
    assert counts.sum() == total
    assert (counts >= np.floor(expected)).all()
    assert (counts <= np.floor(expected + 1e-6) + 1).all()
    sums = np.bincount(strata, counts) - np.bincount(strata, expected)
    assert np.abs(sums).max() < 1 + 1e-6


def test_rounding_is_right_on_average() -> None:
    expected = np.array([0.25, 1.5, 0.25, 2.0, 1.0])
    draw = partial(rounded_at_random, expected, 5, np.zeros(5, np.int64))
    counts = [draw(np.random.default_rng(seed)) for seed in range(2000)]
    np.testing.assert_allclose(np.mean(counts, 0), expected, atol=0.05)


@FEW
@given(INTERVALS, EPOCHS, st.floats(0.01, 1))
def test_repeating_loses_no_sample_and_has_passes_of_one_length(
    intervals: list[float], epoch: int, threshold: float
) -> None:
    sampler = RepeatFactorSampler(Described(intervals), threshold=threshold, seed=3)
    order = list(sampler.order(epoch))
    assert order == list(sampler.order(epoch))
    assert len(order) == len(sampler) == len(sampler.order(epoch + 1))
    assert set(order) == set(range(len(intervals)))
    drawn, expected = np.array(draws_of(order, len(intervals))), sampler.expected()
    assert (drawn <= np.ceil(expected * len(order) / expected.sum() - 1e-6)).all()


def test_rare_thicknesses_are_repeated() -> None:
    sampler = RepeatFactorSampler(Described([1.0] * 90 + [3.0] * 10), threshold=0.4, seed=0)
    drawn = draws_of(list(sampler.order(0)), 100)
    assert drawn == [1] * 90 + [2] * 10
    again = RepeatFactorSampler(Described([1.0] * 90 + [3.0] * 10), threshold=0.4, seed=0)
    assert list(again.order(0)) == list(sampler.order(0)) != list(sampler.order(1))


def test_unknown_thickness_is_not_repeated() -> None:
    sampler = RepeatFactorSampler(Described([1.0] * 9 + [math.nan]), threshold=0.9, seed=0)
    assert sampler.expected().tolist() == [1.0] * 10


def test_classes_of_lesions_can_be_repeated() -> None:
    sampler = RepeatFactorSampler(of_types(*[1] * 9, 2), by="coarse_type", threshold=0.4, seed=0)
    assert draws_of(list(sampler.order(0)), 10) == [1] * 9 + [2]


@FEW
@given(TYPES, EPOCHS)
def test_balancing_has_passes_as_long_as_the_data_set(types: list[int], epoch: int) -> None:
    sampler = ClassBalancedSampler(of_types(*types), by="coarse_type", seed=1)
    order = list(sampler.order(epoch))
    assert len(order) == len(types) == len(sampler)
    assert order == list(sampler.order(epoch))
    drawn = np.bincount(np.array(types)[order] + 1, minlength=9)
    known = [t for t in set(types) if t > 0]
    share = sum(t > 0 for t in types) / len(known)
    for coarse_type in known:
        assert abs(drawn[coarse_type + 1] - share) < 1 + 1e-6


def test_classes_are_balanced_over_passes() -> None:
    types = np.array([*[1] * 80, *[2] * 15, *[5] * 5])
    sampler = ClassBalancedSampler(of_types(*types), seed=0)
    drawn = np.bincount(np.concatenate([types[sampler.order(e)] for e in range(30)]))
    np.testing.assert_allclose(drawn[[1, 2, 5]] / 30, 100 / 3, rtol=0.02)


def test_training_split_is_balanced_by_height_where_types_are_unknown() -> None:
    heights = [0.1] * 8 + [0.9] * 2
    data = Described([1.0] * 10, [[lesion(height=height)] for height in heights])
    order = ClassBalancedSampler(data, seed=0).order(0)
    assert sum(index >= 8 for index in order) == 5
    with pytest.raises(SamplingError, match="no sample has any coarse_type"):
        ClassBalancedSampler(data, by="coarse_type")


@FEW
@given(TYPES, st.integers(0, 30), st.integers(1, 3), st.booleans())
def test_skipping_drops_what_was_drawn(
    types: list[int], number: int, processes: int, infinite: bool
) -> None:
    def made() -> ClassBalancedSampler:
        sampler = ClassBalancedSampler(of_types(*types), seed=4, infinite=infinite)
        return as_process(sampler, processes - 1, processes)

    whole, skipping = made(), made()
    skipping.skip(number)
    wanted = [(d, d.seed) for d in islice(whole, number + 20)][number:]
    assert [(d, d.seed) for d in islice(skipping, 20)] == wanted[:20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(type="RepeatFactorSampler", threshold=0), r"threshold .* in \(0, 1\], got 0"),
        (dict(type="ClassBalancedSampler", power=2), r"power must be in \[0, 1\], got 2"),
        (dict(type="RepeatFactorSampler", by="organ"), "by must name some of"),
        (dict(type="RepeatFactorSampler", edges=(5, 2)), "edges must be"),
        (dict(type="RepeatFactorSampler", shuffle=False), "shuffle must be true"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    data = of_types(1, 2)
    with pytest.raises(SamplingError, match=message):
        DATA_SAMPLERS.build(settings, default_args=dict(dataset=data, seed=0))
