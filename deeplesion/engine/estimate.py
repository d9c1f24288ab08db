"""How long a training will take and how much disk it needs, from a few measured steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

from mmengine.config import Config

#: Of those saved between the others, so many are there at a time, at most.
INTERIM_CHECKPOINTS = 2


def turns_of(last: int, interval: int, begin: int = 0, at_end: bool = True) -> list[int]:
    """After which epochs or iterations, of 1 to ``last``, something is done.

    Args:
        last: The last one of the run.
        interval: Every so many; none where it is not > 0.
        begin: Not before this one.
        at_end: Whether it is done after the last one in any case.
    """
    turns = list(range(interval, last + 1, interval)) if interval > 0 else []
    turns = [turn for turn in turns if turn >= begin]
    if at_end and last >= begin and turns[-1:] != [last]:
        turns.append(last)
    return turns


@dataclass(frozen=True)
class Measured:
    """What was measured of a few steps.

    Attributes:
        step_seconds: Of each step, waiting for data included.
        data_seconds: Of it, waiting for data.
        loading_seconds: Of the pipeline for an image, in one process.
        batch_size: Images of a process and a step.
        workers: Data workers of a process that run at a time; 0: none.
        validation_seconds: Of each batch of a validation.
        checkpoint_seconds: Of saving a checkpoint.
    """

    step_seconds: Sequence[float]
    data_seconds: Sequence[float]
    loading_seconds: float
    batch_size: int
    workers: int
    validation_seconds: Sequence[float]
    checkpoint_seconds: float


@dataclass(frozen=True)
class Estimate:
    """Time of a whole run, in seconds.

    Attributes:
        step: Of a step.
        waiting: Of it, waiting for data.
        training, validation, saving: Of all steps, validations and checkpoints.
    """

    step: float
    waiting: float
    training: float
    validation: float
    saving: float

    @property
    def total(self) -> float:
        """Of the whole run."""
        return self.training + self.validation + self.saving


def estimate(
    measured: Measured, iterations: int, validations: int, batches: int, checkpoints: int
) -> Estimate:
    """Estimate the time of a whole run.

    The first steps of a loader with workers find their batches ready, so that what is measured of
    them says nothing of waiting: in the long run a step takes as long as its batch is loaded, or
    computed, whichever is longer.

    Args:
        measured: A few steps, the first of each start left out.
        iterations: Steps of the run.
        validations: Number of validations.
        batches: Batches of a validation, of one process.
        checkpoints: Number of checkpoints.
    """
    pairs = zip(measured.step_seconds, measured.data_seconds, strict=True)
    computing = median([step - data for step, data in pairs])
    loading = measured.loading_seconds * measured.batch_size
    if measured.workers:
        waiting = max(0.0, loading / measured.workers - computing)
    else:
        waiting = median(measured.data_seconds)
    step = computing + waiting
    batch = median(measured.validation_seconds) if measured.validation_seconds else 0.0
    return Estimate(
        step=step,
        waiting=waiting,
        training=step * iterations,
        validation=batch * batches * validations,
        saving=measured.checkpoint_seconds * checkpoints,
    )


def checkpoint_bytes(full: int, weights: int, checkpoints: int, kept: int, best: int) -> int:
    """Disk that checkpoints take at most.

    Args:
        full: Bytes of one with the state of the optimizer.
        weights: Bytes of one without.
        checkpoints: How many are saved.
        kept: ``max_keep_ckpts``; < 1 keeps all.
        best: How many best ones are kept.

    Returns:
        Bytes; one more than is kept, for the new one is written before the old one is removed.
    """
    count = checkpoints if kept < 1 else min(checkpoints, kept + 1)
    return full * count + weights * best


def validation_batches(images: int, batch_size: int, processes: int) -> int:
    """Batches of a validation, of the process that has most."""
    return ceil(ceil(images / processes) / batch_size)


@dataclass(frozen=True)
class Plan:
    """What a config makes of a run.

    Attributes:
        unit: ``epochs`` or ``iterations``: what its length and validations are counted in.
        last: Its length in that unit.
        iterations: Its length in steps.
        validations: After which epochs or iterations it is evaluated.
        saving_unit: What checkpoints are counted in.
        checkpoints: After which ones they are saved.
        saving_last: The last one of the run.
    """

    unit: str
    last: int
    iterations: int
    validations: Sequence[int]
    saving_unit: str
    checkpoints: Sequence[int]
    saving_last: int


def plan_of(cfg: Config, batches_per_epoch: int) -> Plan:
    """Work out what a config makes of a run.

    Args:
        cfg: The config.
        batches_per_epoch: Of the training loader.
    """
    train = cfg.train_cfg
    epochs = train.get("max_epochs")
    iterations = epochs * batches_per_epoch if epochs else train.max_iters
    last = epochs or iterations
    hook = cfg.get("default_hooks", {}).get("checkpoint") or {}
    by_epoch = hook.get("by_epoch", True)
    saving_last = (epochs or 1) if by_epoch else iterations
    saved = turns_of(saving_last, hook.get("interval", -1), hook.get("save_begin", 0))
    interval = train.get("val_interval", 1 if epochs else 1000)
    tested = (
        turns_of(last, interval, train.get("val_begin", 1))
        if cfg.get("val_cfg") is not None
        else []
    )
    unit = "epochs" if epochs else "iterations"
    return Plan(
        unit, last, iterations, tested, "epochs" if by_epoch else "iterations", saved, saving_last
    )


def disk_need(cfg: Config, plan: Plan, full: int, weights: int) -> int:
    """Bytes that the checkpoints of a run take at most.

    Args:
        cfg: The config.
        plan: What it makes of the run.
        full: Bytes of a checkpoint.
        weights: Bytes of one without the state of the optimizer, as the best is kept.
    """
    hook = cfg.get("default_hooks", {}).get("checkpoint") or {}
    best, kept = hook.get("save_best") or (), hook.get("max_keep_ckpts", -1)
    count = len([best] if isinstance(best, str) else best)
    between = INTERIM_CHECKPOINTS * full if saves_between(hook) else 0
    return checkpoint_bytes(full, weights, len(plan.checkpoints), kept, count) + between


def saves_between(hook: Mapping[str, Any]) -> bool:
    """Whether a checkpoint hook saves by the clock or by iterations, beside its interval."""
    return bool(hook.get("every_minutes") or hook.get("every_iters"))
