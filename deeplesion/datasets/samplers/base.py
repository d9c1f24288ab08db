"""What is drawn when: samples and the randomness in them follow from seed and position alone.

So the number of workers and of processes, and any interruption, change nothing: position ``p`` of
pass ``e`` over the data is the same sample with the same augmentation, whoever loads it and when.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from math import ceil

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

NUMPY_WORDS = 4  # of 32 bits, that numpy.random is seeded by
# Fourth number of a step's position, kept apart from those in deeplesion.engine.seeding.
STEP = 3


class Draw(int):
    """The index of a sample that also carries the seed of what is random in loading it.

    Datasets that seed by it (:class:`deeplesion.datasets.deeplesion.DeepLesionDataset`) give the
    same sample in whatever process they run. To others it is a plain index. It stays one through
    the subtraction and the remainder by which ``ConcatDataset`` and ``RepeatDataset`` find theirs.

    Args:
        index: Of the sample in the data set.
        seed: Not negative, below 2^64.
        step_seed: The same of what all samples of one step share, in whatever process they are;
            ``None`` where it is not known which those are.
    """

    seed: int
    step_seed: int | None

    def __new__(cls, index: int, seed: int, step_seed: int | None = None) -> Draw:
        """Make an index with seeds."""
        draw = super().__new__(cls, index)
        draw.seed, draw.step_seed = seed, step_seed
        return draw

    def __getnewargs__(self) -> tuple[int, int, int | None]:  # type: ignore[override]
        """What pickle makes it anew from, on its way to a worker."""
        return int(self), self.seed, self.step_seed

    def __sub__(self, other: int) -> Draw:
        """The index in a data set that begins later."""
        return Draw(int(self) - other, self.seed, self.step_seed)

    def __mod__(self, other: int) -> Draw:
        """The index in a data set that is repeated."""
        return Draw(int(self) % other, self.seed, self.step_seed)

    def __repr__(self) -> str:
        """Index and seed."""
        return f"Draw({int(self)}, seed={self.seed})"


def seed_of(*position: int) -> int:
    """The seed of a position, such as (run's seed, epoch, number of the sample).

    Args:
        *position: Numbers that are not negative.

    Returns:
        64 bits by :class:`numpy.random.SeedSequence`: near positions have unrelated seeds.
    """
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])


def step_seed_of(seed: int, epoch: int, step: int) -> int:
    """The seed of what all samples of a step share, such as their size.

    Args:
        seed: Of the run.
        epoch: The pass over the data.
        step: Number of the step in it.
    """
    return seed_of(seed, epoch, step, STEP)


def seed_cpu(seed: int) -> None:
    """Seed ``random``, ``numpy.random`` and PyTorch's generator of the CPU.

    Args:
        seed: Not negative, below 2^64.
    """
    random.seed(seed)
    # Not by the same words, from which numpy's twister would draw the numbers of Python's.
    np.random.seed(np.random.SeedSequence(seed).generate_state(NUMPY_WORDS))
    # torch.manual_seed would wake the GPU up in every worker.
    torch.default_generator.manual_seed(seed)


@contextmanager
def seeded_by(index: int) -> Iterator[None]:
    """Seed whatever is random inside by a :class:`Draw`, and put the outer states back afterwards.

    Args:
        index: Of a sample; nothing is seeded by a plain one.
    """
    if not isinstance(index, Draw):
        yield
        return
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_cpu(index.seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


@DATA_SAMPLERS.register_module()
class CTSampler(Sampler):
    """Shards a global order over the processes: rank ``r`` of ``W`` takes places r, r + W, ...

    So the batches of all processes together are those of one process with a ``W`` times larger
    batch. The end of a pass is filled up from its beginning, so that all processes get as many
    samples. (Metrics that collect results over processes cut off what is doubled so, see
    :func:`mmengine.dist.collect_results`.) A subclass overrides :meth:`order` and nothing else.

    Args:
        dataset: What has a length.
        shuffle: Another order in every epoch; ``False`` for that of the data set, to evaluate.
        seed: Seed of the run, the same in all processes; ``None`` draws one.
        infinite: Go through pass after pass without end, as loops by iterations want; the end of a
            pass is not filled up then but followed by the next one.

    Attributes:
        batch_size: Samples of this process in a step, for whoever makes batches of it to set;
            ``None`` where samples that are drawn in a row are not those of a batch.
    """

    batch_size: int | None = None

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        infinite: bool = False,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed: int = sync_random_seed() if seed is None else seed
        self.infinite = infinite
        self.epoch = 0
        self._skipped = 0

    def order(self, epoch: int) -> Sequence[int]:
        """The indices of a pass over the data, of all processes together.

        Args:
            epoch: Number of the pass.

        Returns:
            Indices in the order in which they are drawn; it follows from ``seed`` and ``epoch``,
            and is as long in every epoch.
        """
        if not self.shuffle:
            return range(len(self.dataset))
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.dataset)).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the pass that the next iteration is over; an infinite one counts them itself.

        Args:
            epoch: Number of the epoch.
        """
        if not self.infinite:
            self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Begin the next iteration later, without loading anything; those after it as ever.

        Args:
            num_samples: How many samples of this process have been drawn before, counted from the
                beginning of the epoch, or of the training if infinite.

        Raises:
            ValueError: It is negative.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must be >= 0, got {num_samples}")
        self._skipped = num_samples

    def __len__(self) -> int:
        """Number of samples of this process in a pass, filled up."""
        return ceil(self._length / self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        """Draws of this process: of one pass, or without end if infinite."""
        skipped, self._skipped = self._skipped, 0
        first = skipped * self.world_size + self.rank
        return self._stream(first) if self.infinite else self._pass(first)

    @cached_property
    def _length(self) -> int:
        return len(self.order(0))

    def _pass(self, first: int) -> Iterator[Draw]:
        """Every W-th place of this epoch's order from some place on, filled up."""
        epoch, order = self.epoch, self.order(self.epoch)
        for place in range(first, len(self) * self.world_size, self.world_size):
            yield self._draw(order[place % len(order)], epoch, place, (epoch, place))

    def _stream(self, first: int) -> Iterator[Draw]:
        """Every W-th place of the orders of all passes, one behind the other."""
        if self._length == 0:
            raise ValueError("there is no end of a data set without samples")
        begin = 0
        for epoch in count():
            order = self.order(epoch)
            for place in range(first - begin, len(order), self.world_size):
                yield self._draw(order[place], epoch, place, (0, begin + place))
                first += self.world_size
            begin += len(order)

    def _draw(self, index: int, epoch: int, place: int, in_steps: tuple[int, int]) -> Draw:
        """A draw; steps are counted by pass and place, or by the place of all passes in a row."""
        step_seed = None
        if self.batch_size is not None:
            step = in_steps[1] // (self.batch_size * self.world_size)
            step_seed = step_seed_of(self.seed, in_steps[0], step)
        return Draw(int(index), seed_of(self.seed, epoch, place), step_seed)
