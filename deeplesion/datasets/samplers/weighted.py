"""Samplers that draw some samples more often than others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from math import ceil
from typing import Any

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from numpy.typing import NDArray

from deeplesion.datasets.samplers.base import CTSampler
from deeplesion.datasets.samplers.sample_table import (
    THICKNESS_EDGES,
    UNKNOWN,
    Floats,
    Ints,
    SampleTable,
    SamplingError,
    check_edges,
    lesion_classes,
    read_table,
)

# Numbers this close below a whole one are meant to be it.
ROUNDING = 1e-9


def repeat_factors(samples: Ints, classes: Ints, size: int, threshold: float) -> Floats:
    """Repeat factors of LVIS (A. Gupta, P. Dollar, R. Girshick, CVPR 2019, section 4).

    With ``f(c)`` the fraction of samples that have class c, ``r(c) = max(1, sqrt(t / f(c)))``, and
    a sample has the greatest of its classes.

    Args:
        samples: ``(k,)`` a sample for each class that it has.
        classes: ``(k,)`` the class.
        size: Number of samples.
        threshold: t, the fraction below which a class is rare.

    Returns:
        ``(size,)``; 1 for samples without a class.
    """
    pairs = np.unique(np.stack([samples, classes]), axis=1)
    _, place, counts = np.unique(pairs[1], return_inverse=True, return_counts=True)
    factors = np.sqrt(threshold * size / counts)
    repeats = np.ones(size)
    np.maximum.at(repeats, pairs[0], factors[place])
    return repeats


def balanced_counts(samples: Ints, classes: Ints, size: int, power: float) -> Floats:
    """How often samples are drawn per pass so that classes come as often as each other.

    A lesion of class c weighs ``n(c) ** -power``, n being the number of lesions, a sample the mean
    of its lesions. Samples without a class are drawn as if nothing were balanced.

    Args:
        samples: ``(k,)`` the sample of each lesion.
        classes: ``(k,)`` its class.
        size: Number of samples.
        power: 1 balances entirely, 0 not at all.

    Returns:
        ``(size,)``, whose sum is ``size``.
    """
    _, place, counts = np.unique(classes, return_inverse=True, return_counts=True)
    lesions = np.bincount(samples, minlength=size)
    known = lesions > 0
    weights = np.bincount(samples, counts[place] ** -float(power), size) / np.maximum(lesions, 1)
    expected = np.ones(size)
    expected[known] = weights[known] * (known.sum() / weights.sum())
    return expected


def rounded_at_random(
    expected: Floats, total: int, strata: Ints, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Whole numbers with given means and a given sum, each of them rounded up or down.

    Systematic sampling: the fractions lie end to end in random order, stratum after stratum, and
    every point at a whole number plus one random offset falls into one that is rounded up. So the
    sum over a stratum is less than one from its mean, too.

    Args:
        expected: ``(n,)``, not negative, whose sum is ``total`` but for rounding.
        total: What the result adds up to.
        strata: ``(n,)`` numbers.
        generator: Of random numbers.

    Returns:
        ``(n,)``.
    """
    counts = np.floor(expected + ROUNDING).astype(np.int64)
    left = total - int(counts.sum())
    if left <= 0:
        return counts
    order = generator.permutation(len(expected))
    order = order[np.argsort(strata[order], kind="stable")]
    ends = np.cumsum(np.maximum(expected - counts, 0)[order])
    ends *= left / ends[-1]
    ends[-1] = left
    # The offset is below 1, so that the first point is at or behind 0 and the last before the end.
    points = np.floor(ends + generator.random())
    counts[order] += np.diff(points, prepend=0).astype(np.int64)
    return counts


class WeightedSampler(CTSampler):
    """Draws samples a given number of times per pass, rounded anew at random in each.

    Every pass is as long as every other, and follows from seed and epoch.

    Args:
        dataset: See :func:`deeplesion.datasets.samplers.sample_table.read_table`.
        by: Keys of :data:`deeplesion.datasets.samplers.sample_table.KEYS`, or one.
        edges: In mm, of groups by ``slice_interval``.
        **kwargs: See :class:`CTSampler`; ``shuffle`` must be true.

    Raises:
        SamplingError: If a setting is out of range, or nothing is known of the samples by these
            keys.
    """

    #: For batch samplers: a group may have more draws in one pass than in another.
    draws_vary = True

    def __init__(
        self,
        dataset: Any,
        by: str | Sequence[str],
        edges: Sequence[float] = THICKNESS_EDGES,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataset, **kwargs)
        if not self.shuffle:
            raise SamplingError(f"{type(self).__name__} draws at random: shuffle must be true")
        keys = [by] if isinstance(by, str) else list(by)
        self.table: SampleTable = read_table(dataset)
        self.classes = lesion_classes(self.table, keys, check_edges(edges))

    @abstractmethod
    def expected(self) -> Floats:
        """``(n,)``: how often each sample is drawn per pass, on average."""

    def order(self, epoch: int) -> Sequence[int]:
        """The indices of a pass, see :meth:`CTSampler.order`."""
        generator = np.random.default_rng((self.seed, epoch))
        counts = rounded_at_random(*self._plan, generator)
        return generator.permutation(np.repeat(np.arange(len(counts)), counts)).tolist()

    @cached_property
    def _plan(self) -> tuple[Floats, int, Ints]:
        """Means that add up to a whole number, that number, and the first class of each sample."""
        expected = self.expected()
        total = ceil(expected.sum() - ROUNDING * len(expected))
        samples, classes = self.classes
        strata = np.full(len(expected), UNKNOWN, np.int64)
        strata[samples[::-1]] = classes[::-1]
        return expected * (total / expected.sum()), total, strata


@DATA_SAMPLERS.register_module()
class RepeatFactorSampler(WeightedSampler):
    """Repeats samples of rare classes, rare thicknesses by default; see :func:`repeat_factors`.

    Every sample is drawn once per pass at least. A factor of 2.3 means twice in seven passes of
    ten and three times in the others.

    Args:
        dataset: See :class:`WeightedSampler`.
        by: See :class:`WeightedSampler`.
        threshold: The fraction of samples below which a class is rare.
        edges: See :class:`WeightedSampler`.
        **kwargs: See :class:`WeightedSampler`.

    Raises:
        SamplingError: If the threshold is not in (0, 1], or see :class:`WeightedSampler`.
    """

    def __init__(
        self,
        dataset: Any,
        by: str | Sequence[str] = "slice_interval",
        threshold: float = 0.1,
        edges: Sequence[float] = THICKNESS_EDGES,
        **kwargs: Any,
    ) -> None:
        if not 0 < threshold <= 1:
            raise SamplingError(f"threshold must be a fraction in (0, 1], got {threshold}")
        super().__init__(dataset, by, edges, **kwargs)
        self.threshold = threshold

    def expected(self) -> Floats:
        """The repeat factor of each sample."""
        return repeat_factors(*self.classes, len(self.table), self.threshold)


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(WeightedSampler):
    """Draws lesions of all classes equally often; a pass is as long as the data set.

    Samples of frequent classes are left out of some passes. See :func:`balanced_counts`.

    Args:
        dataset: See :class:`WeightedSampler`.
        by: Keys, the preferred one first, for DeepLesion's training split has no coarse types.
        power: 1 balances entirely, 0 not at all, 0.5 by the square root.
        edges: See :class:`WeightedSampler`.
        **kwargs: See :class:`WeightedSampler`.

    Raises:
        SamplingError: If the power is not in [0, 1], or see :class:`WeightedSampler`.
    """

    def __init__(
        self,
        dataset: Any,
        by: str | Sequence[str] = ("coarse_type", "height"),
        power: float = 1.0,
        edges: Sequence[float] = THICKNESS_EDGES,
        **kwargs: Any,
    ) -> None:
        if not 0 <= power <= 1:
            raise SamplingError(f"power must be in [0, 1], got {power}")
        super().__init__(dataset, by, edges, **kwargs)
        self.power = power

    def expected(self) -> Floats:
        """The mean number of draws of each sample."""
        return balanced_counts(*self.classes, len(self.table), self.power)
