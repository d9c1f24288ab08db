"""mmengine's training loops, going on exactly where they were interrupted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from mmdet.registry import LOOPS
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from deeplesion.engine.seeding import VALIDATION, seed_iteration

#: The stage of hooks after all those after an iteration, when the iteration has been counted. All
#: that a checkpoint holds fits together then.
AT_REST = "at_rest"


def begin_at(loader: DataLoader, epoch: int, batch: int) -> Iterator[Any]:
    """Go through a dataloader from the middle of a pass on.

    Samplers with ``skip`` (in samples), or batch samplers with it (in batches), begin there;
    of others the batches before are loaded and thrown away.

    Args:
        loader: The dataloader.
        epoch: Number of the pass.
        batch: Of this process, the first one of the pass is 0.

    Returns:
        The batches from there on.
    """
    batches: Any = loader.batch_sampler
    order, unit = batches, 1
    if type(batches) is BatchSampler:
        order, unit = batches.sampler, batches.batch_size
    for part in (batches, getattr(batches, "sampler", None)):
        if part is not None and hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
    if batch == 0 or hasattr(order, "skip"):
        if batch:
            order.skip(batch * unit)
        return iter(loader)
    print_log(
        f"{type(order).__name__} cannot skip: {batch} batches are loaded in vain; CTSampler can",
        logger="current",
        level=logging.WARNING,
    )
    return islice(loader, batch, None)


def is_infinite(loader: DataLoader) -> bool:
    """Whether a dataloader has no end, by what its samplers say."""
    batches = loader.batch_sampler
    parts = (batches, getattr(batches, "sampler", None))
    return any(getattr(p, "infinite", isinstance(p, InfiniteSampler)) for p in parts)


class ExactLoop:
    """What both loops below share.

    Attributes:
        validated: Number of iterations after which the last validation was finished.
    """

    runner: Runner
    val_interval: int
    val_begin: int
    _iter: int
    _decide_current_val_interval: Callable[[], None]
    validated: int | None = None

    def run_iter(self, *args: Any) -> None:
        """Train on a batch, with randomness by its number; see mmengine's loops."""
        seed_iteration(self.runner.seed, self._iter)
        super().run_iter(*args)  # type: ignore[misc]
        self.runner.call_hook(AT_REST)

    def _validate_if_due(self, done: int, end: int) -> None:
        """Validate where it is time and has not been done, in the loop's own unit."""
        self._decide_current_val_interval()
        is_turn = done % self.val_interval == 0 or done == end
        if self.runner.val_loop is None or done < self.val_begin or not is_turn:
            return
        if self.validated != self._iter:
            seed_iteration(self.runner.seed, self._iter, VALIDATION)
            self.runner.val_loop.run()
            self.validated = self._iter


@LOOPS.register_module()
class ResumableEpochLoop(ExactLoop, EpochBasedTrainLoop):
    """Training by epochs that can be resumed in the middle of one, without loading what was seen.

    A validation that an interruption cut short is done again first. Arguments are those of
    :class:`mmengine.runner.EpochBasedTrainLoop`.
    """

    def run(self) -> nn.Module:
        """Train, from wherever the checkpoint stood."""
        self.runner.call_hook("before_train")
        if 0 < self._iter == self._epoch * len(self.dataloader):
            self._validate_if_due(self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due(self._epoch, self._max_epochs)
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_epoch(self) -> None:
        """Train for what is left of an epoch."""
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        first = self._iter - self._epoch * len(self.dataloader)
        if first < len(self.dataloader):
            for index, batch in enumerate(begin_at(self.dataloader, self._epoch, first), first):
                self.run_iter(index, batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1


@LOOPS.register_module()
class ResumableIterLoop(ExactLoop, IterBasedTrainLoop):
    """Training by iterations that is resumed without loading what was seen.

    A validation that an interruption cut short is done again first. Arguments are those of
    :class:`mmengine.runner.IterBasedTrainLoop`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Begins before it is known where.
        del self.dataloader_iterator

    def run(self) -> nn.Module:
        """Train, from wherever the checkpoint stood."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = self._batches()
        if self._iter > 0:
            self._validate_if_due(self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(batches))
            self._validate_if_due(self._iter, self._max_iters)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def _batches(self) -> Iterator[Sequence[dict]]:
        """Batches from the current iteration on, pass after pass."""
        if is_infinite(self.dataloader):
            yield from begin_at(self.dataloader, 0, self._iter)
        length = len(self.dataloader)
        for epoch in count(self._iter // length):
            yield from begin_at(self.dataloader, epoch, self._iter - epoch * length)
