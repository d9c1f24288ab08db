"""Batches whose samples have about the same thickness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import count
from math import ceil

import numpy as np
from mmdet.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler

from deeplesion.datasets.samplers.base import CTSampler, Draw, seed_of, step_seed_of
from deeplesion.datasets.samplers.sample_table import (
    THICKNESS_EDGES,
    Ints,
    SamplingError,
    check_edges,
    read_table,
    thickness_groups,
)

# Tells the generator that shuffles batches from those of samples.
BATCH_STREAM = (0, 1)


@DATA_SAMPLERS.register_module()
class ThicknessBatchSampler(BatchSampler):
    """Batches of one thickness group, over any :class:`CTSampler`.

    In a step all processes have batches of the same group: together they are the batch that one
    process with a W times larger batch size would have, sample for sample, so that the number of
    processes changes nothing; and no process waits for others with larger volumes. Groups come in
    proportion to their size, in random order.

    Every sample of the sampler's pass is drawn. What is left of a group at the end of a pass is
    filled up with samples from the beginning of that group's pass. Where a group's size differs
    from pass to pass, as with samplers that repeat at random, passes are made equally long by
    batches from the beginning of the pass, at most as many as there are groups. Samples of unknown
    slice interval are a group of their own.

    Args:
        sampler: Gives the order of samples, seed, and whether batches are shuffled and without end.
        batch_size: Of each process.
        edges: Of the groups, slice intervals in mm that rise; see
            :func:`deeplesion.datasets.samplers.sample_table.thickness_groups`.

    Raises:
        SamplingError: If the sampler has no order, batch size or edges are not positive, edges do
            not rise, or the data set does not tell slice intervals.
    """

    def __init__(
        self,
        sampler: CTSampler,
        batch_size: int,
        edges: Sequence[float] = THICKNESS_EDGES,
    ) -> None:
        if not isinstance(sampler, CTSampler):
            raise SamplingError(
                "ThicknessBatchSampler needs sampler=dict(type='CTSampler') or one made of it, got "
                f"{type(sampler).__name__}"
            )
        if batch_size < 1:
            raise SamplingError(f"batch_size must be >= 1, got {batch_size}")
        super().__init__(sampler, batch_size, drop_last=False)
        self.sampler: CTSampler = sampler
        self.edges = check_edges(edges)
        table = getattr(sampler, "table", None) or read_table(sampler.dataset)
        self._groups = thickness_groups(table.slice_interval, self.edges)
        self._skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iteration is over, see :meth:`CTSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)

    def skip(self, num_batches: int) -> None:
        """Begin the next iteration later, without loading anything; those after it as ever.

        Args:
            num_batches: How many batches of this process have been drawn before, counted from the
                beginning of the epoch, or of the training if infinite.

        Raises:
            ValueError: It is negative.
        """
        if num_batches < 0:
            raise ValueError(f"num_batches must be >= 0, got {num_batches}")
        self._skipped = num_batches

    def __len__(self) -> int:
        """Number of batches of this process in a pass."""
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of draws of this process: of one pass, or without end if infinite."""
        skipped, self._skipped = self._skipped, 0
        if not self.sampler.infinite:
            yield from self._pass(self.sampler.epoch, skipped)
            return
        if self._length == 0:
            raise ValueError("there is no end of a data set without samples")
        first_epoch, first = divmod(skipped, self._length)
        for epoch in count(first_epoch):
            yield from self._pass(epoch, first)
            first = 0

    def batches(self, epoch: int) -> Ints:
        """The batches of all processes in a pass.

        Args:
            epoch: Number of the pass.

        Returns:
            ``(steps, processes * batch size)`` indices; rank ``r`` of ``W`` takes columns r, r + W,
            ...
        """
        grouped = self._grouped(epoch)
        if self.sampler.shuffle:
            generator = np.random.default_rng((self.sampler.seed, epoch, *BATCH_STREAM))
            grouped = grouped[generator.permutation(len(grouped))]
        return np.resize(grouped, (self._length, self._width))

    @property
    def _width(self) -> int:
        """Samples of all processes in a step."""
        return self.sampler.world_size * self.batch_size

    @cached_property
    def _length(self) -> int:
        if not getattr(self.sampler, "draws_vary", False):
            return len(self._grouped(0))
        # The most batches that so many samples in so many groups can make.
        samples, groups = len(self.sampler.order(0)), len(np.unique(self._groups))
        return max(samples - groups, 0) // self._width + min(groups, samples)

    def _grouped(self, epoch: int) -> Ints:
        """The batches of a pass, group after group, filled up."""
        order = np.asarray(self.sampler.order(epoch), np.int64)
        groups = self._groups[order]
        members = [order[groups == group] for group in np.unique(groups)]
        filled = [np.resize(m, (ceil(len(m) / self._width), self._width)) for m in members]
        return np.concatenate([np.empty((0, self._width), np.int64), *filled])

    def _pass(self, epoch: int, first: int) -> Iterator[list[int]]:
        """This process's part of the batches of a pass, from some batch on."""
        rank, world_size, seed = self.sampler.rank, self.sampler.world_size, self.sampler.seed
        batches = self.batches(epoch)
        for step in range(first, len(batches)):
            begin, shared = step * self._width, step_seed_of(seed, epoch, step)
            yield [
                Draw(int(batches[step, column]), seed_of(seed, epoch, begin + column), shared)
                for column in range(rank, self._width, world_size)
            ]
