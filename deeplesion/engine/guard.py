"""Hooks that watch for losses and gradients that are not finite."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import Tensor

from deeplesion.engine.guard_records import (
    LISTED_PARAMETERS,
    Record,
    append_line,
    bad_entries,
    describe_batch,
    plain_number,
    summarize,
)
from deeplesion.engine.guarded_step import GuardedStep, SkippedStep
from deeplesion.engine.weight_average import WeightAverageHook

#: File in the work dir with one line for each skipped step.
RECORD_FILE = "skipped_steps.jsonl"
# Under which the message hub, and with it every checkpoint, keeps the counts.
COUNTS_KEY = "skipped_steps"


class NonFiniteError(ValueError):
    """Too many steps had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class SkipCounts:
    """How many steps were skipped.

    Attributes:
        in_all: Since the training began, over all resumptions.
        in_a_row: Up to the last step.
        overflows: Those by which float16's scale adapts, which count nowhere else.
    """

    in_all: int = 0
    in_a_row: int = 0
    overflows: int = 0

    @classmethod
    def load(cls, hub: MessageHub) -> SkipCounts:
        """Counts of a message hub, which may come from a checkpoint."""
        return cls(*hub.runtime_info.get(COUNTS_KEY, ()))

    def save(self, hub: MessageHub) -> None:
        """Put the counts into a message hub."""
        hub.update_info(COUNTS_KEY, (self.in_all, self.in_a_row, self.overflows))

    def after_step(self) -> SkipCounts:
        """Counts after a step that was taken."""
        return replace(self, in_a_row=0)

    def after_skip(self, overflow: bool) -> SkipCounts:
        """Counts after one that was skipped."""
        if overflow:
            return replace(self, overflows=self.overflows + 1)
        return replace(self, in_all=self.in_all + 1, in_a_row=self.in_a_row + 1)


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Counts skipped steps, writes down whose they are, and stops a training that has too many.

    The steps themselves are skipped by the optimizer wrapper, see
    :class:`deeplesion.engine.guarded_step.GuardedStep`. Every skipped step becomes a line of
    ``skipped_steps.jsonl`` in the work dir, with the samples of all processes, and which of their
    losses and which parameters' gradients were not finite. ``skipped_steps`` is logged; losses
    that are not finite are not, for they would spoil the means of the log. Counts are part of
    checkpoints.

    With float16 and a dynamic scale of the loss, steps that are skipped while the loss is finite
    and the scale above ``collapsed_scale`` are how the scale adapts, and no failures.

    Args:
        max_in_a_row: Stop after so many skipped steps in a row.
        max_in_all: Stop after so many in the whole training.
        collapsed_scale: A scale of float16's loss that no sound training falls to.

    Raises:
        ValueError: If one of them is not positive.
    """

    # Before everything that reads the losses.
    priority = "HIGHEST"

    def __init__(
        self, max_in_a_row: int = 10, max_in_all: int = 100, collapsed_scale: float = 1.0
    ) -> None:
        limits = {"max_in_a_row": max_in_a_row, "max_in_all": max_in_all}
        for name, value in {**limits, "collapsed_scale": collapsed_scale}.items():
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        self.max_in_a_row, self.max_in_all = max_in_a_row, max_in_all
        self.collapsed_scale = collapsed_scale
        # Batches of the step that is under way, with their losses.
        self._batches: list[tuple[Any, dict[str, Any]]] = []

    def before_train(self, runner: Runner) -> None:
        """Say what is not guarded."""
        if not isinstance(runner.optim_wrapper, GuardedStep):
            name = type(runner.optim_wrapper).__name__
            runner.logger.warning(
                f"steps that are not finite are not skipped by {name}: set optim_wrapper.type "
                "to GuardedOptimWrapper, BFloat16OptimWrapper or GuardedAmpOptimWrapper"
            )
        for hook in runner.hooks:
            if isinstance(hook, EMAHook) and not isinstance(hook, WeightAverageHook):
                runner.logger.warning(
                    f"{type(hook).__name__} averages after skipped steps, too: "
                    "use WeightAverageHook"
                )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Look at the step that a batch ended with, if it ended with one.

        Args:
            runner: The Runner.
            batch_idx: Not used.
            data_batch: Its samples.
            outputs: Its losses; those that are not finite are taken out.

        Raises:
            NonFiniteError: If too many steps were skipped.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, GuardedStep):
            return
        losses = {k: v.detach() if isinstance(v, Tensor) else v for k, v in (outputs or {}).items()}
        self._batches.append((data_batch, losses))
        for name in bad_entries(losses):
            del outputs[name]  # type: ignore[union-attr]
        if wrapper.is_accumulating:
            return
        hub, counts = runner.message_hub, SkipCounts.load(runner.message_hub)
        if wrapper.skipped is None:
            counts = counts.after_step()
        else:
            counts, record = self._note(runner, wrapper.skipped, counts)
        self._batches.clear()
        counts.save(hub)
        hub.update_scalar("train/skipped_steps", counts.in_all)
        if wrapper.skipped is not None:
            self._stop_at_limits(runner, counts, record)

    def _note(
        self, runner: Runner, skipped: SkippedStep, counts: SkipCounts
    ) -> tuple[SkipCounts, Record]:
        """Count a skipped step, and write it down unless float16's scale adapts."""
        mine = {"rank": get_rank(), "batches": [describe_batch(*one) for one in self._batches]}
        # Every process has the same gradients and so comes here, too.
        ranks = all_gather_object(mine)
        finite = not any(batch["losses"] for rank in ranks for batch in rank["batches"])
        overflow = finite and skipped.scale_adapts
        overflow = overflow and (skipped.loss_scale or 0.0) > self.collapsed_scale
        counts = counts.after_skip(overflow)
        record = {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "epoch": runner.epoch + 1,
            "iter": runner.iter + 1,
            "gradient_norm": plain_number(skipped.gradient_norm),
            "number_of_parameters": len(skipped.parameters),
            "parameters": skipped.parameters[:LISTED_PARAMETERS],
            "loss_scale": skipped.loss_scale,
            "skipped_in_all": counts.in_all,
            "skipped_in_a_row": counts.in_a_row,
            "ranks": ranks,
        }
        if not overflow:
            if is_main_process():
                append_line(Path(runner.work_dir) / RECORD_FILE, record)
            text = f"skipped the step of iteration {record['iter']}, which is not finite"
            runner.logger.log(logging.WARNING, f"{text}: {summarize(record)}")
        return counts, record

    def _stop_at_limits(self, runner: Runner, counts: SkipCounts, record: Record) -> None:
        if counts.in_a_row < self.max_in_a_row and counts.in_all < self.max_in_all:
            return
        raise NonFiniteError(
            f"training stopped at iteration {record['iter']}: {counts.in_all} steps had a loss or "
            f"gradient that is not finite, the last {counts.in_a_row} in a row; the latest: "
            f"{summarize(record)}. All are in {Path(runner.work_dir) / RECORD_FILE}. If "
            "the same samples come again, look at these slices and their annotations; if not, "
            "lower the learning rate, warm up longer, clip gradients lower or train without "
            "--amp. The weights of the last checkpoint are sound: go on by --resume or, with "
            "another learning rate, begin from them by --cfg-options load_from=FILE"
        )
