"""What looks wrong in a training's config before it runs for days: pure functions on settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplesion.engine.lr_scaling import scaling_factor
from deeplesion.engine.wording import counted

OK, WARNING, ERROR = "ok", "warning", "error"
#: Schedulers of mmengine that begin low, by the setting that says how low.
WARM_UPS = {
    "LinearLR": "start_factor",
    "LinearParamScheduler": "start_factor",
    "ConstantLR": "factor",
    "ConstantParamScheduler": "factor",
    "QuadraticWarmupLR": "",
    "QuadraticWarmupParamScheduler": "",
}
#: A warm-up this part of a run, or more, leaves too little; of those proposed so many fill it.
LONG_WARM_UP, FITTING_WARM_UPS = 0.5, 20
#: Memory and disk fuller than this may not last.
NEARLY_FULL = 0.9
#: Batches that each worker of PyTorch's loader holds ready, unless told otherwise.
PREFETCH = 2
MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        level: ``ok``, ``warning``, or ``error``, with which training should not be begun.
        what: What is the case.
        remedy: What to do about it.
    """

    level: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """One line, or two with the remedy."""
        line = f"{self.level:<8} {self.what}"
        return f"{line}\n{'':<8} -> {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Scale:
    """How many images there are in a step, and for how many the learning rate is.

    Attributes:
        batch_size: Images of a process and a forward pass.
        processes: Number of processes.
        accumulation: Forward passes of a step.
        rate: Learning rate of the config.
        base_batch_size: Images for which that is; None where the config does not say.
        scaled: Whether the rate is scaled to the batch (``--auto-scale-lr``).
        adaptive: Whether the optimizer is of Adam's kind, whose rate goes by the square root.
    """

    batch_size: int
    processes: int
    accumulation: int
    rate: float | None
    base_batch_size: int | None
    scaled: bool = False
    adaptive: bool = False

    @property
    def images(self) -> int:
        """Images of a step of the optimizer."""
        return self.batch_size * self.processes * self.accumulation


def check_learning_rate(scale: Scale) -> Finding:
    """Compare the learning rate with the batch that it is for, as ``--auto-scale-lr`` does.

    Args:
        scale: Of the run.
    """
    images = f"{scale.images} images a step"
    if scale.rate is None or scale.base_batch_size is None:
        return Finding(
            WARNING,
            f"the config does not say for which batch its learning rate is; here are {images}",
            "add auto_scale_lr=dict(base_batch_size=...)",
        )
    fitting = scale.rate * scaling_factor(scale.images, scale.base_batch_size, scale.adaptive)
    if scale.scaled:
        return Finding(OK, f"learning rate {scale.rate:g} is scaled to {fitting:g} for {images}")
    if scale.images == scale.base_batch_size:
        return Finding(OK, f"learning rate {scale.rate:g} is for {images}, as there are")
    return Finding(
        WARNING,
        f"learning rate {scale.rate:g} is for {scale.base_batch_size} images a step, there are "
        f"{scale.images}",
        f"give --auto-scale-lr, or set optim_wrapper.optimizer.lr={fitting:g}",
    )


def check_schedule(
    schedulers: Sequence[Mapping[str, Any]], iterations: int, epochs: int | None
) -> list[Finding]:
    """Compare warm-up and other schedules with the length of the run.

    Args:
        schedulers: ``param_scheduler`` of the config.
        iterations: Of the whole run.
        epochs: Of the whole run; None where it is counted in iterations.
    """
    found = []
    for one in schedulers:
        by_epoch = one.get("by_epoch", True)
        if by_epoch and epochs is None:
            what = f"{one['type']} goes by epochs, the training by iterations: it never moves"
            found.append(Finding(ERROR, what, "set by_epoch=False in param_scheduler"))
            continue
        length, unit = (epochs or 0, "epochs") if by_epoch else (iterations, "iterations")
        begin, end = one.get("begin", 0), one.get("end", math.inf)
        if begin >= length:
            what = f"{one['type']} begins at {begin} {unit}, the run has {length}"
            found.append(Finding(WARNING, what, "lengthen the run, or let param_scheduler fit it"))
        elif _is_warm_up(one) and end >= LONG_WARM_UP * length:
            level = ERROR if end > length else WARNING
            what = f"the warm-up lasts {end:g} of the {length} {unit} of the run"
            shorter = length // FITTING_WARM_UPS
            remedy = (
                f"shorten it: param_scheduler, end={shorter}" if shorter else "train for longer"
            )
            found.append(Finding(level, what, remedy))
    return found or [Finding(OK, f"the schedule fits {iterations} iterations")]


def _is_warm_up(scheduler: Mapping[str, Any]) -> bool:
    if scheduler.get("begin", 0) != 0 or scheduler["type"] not in WARM_UPS:
        return False
    name = WARM_UPS[scheduler["type"]]
    return not name or scheduler.get(name, 1 / 3) < scheduler.get("end_factor", 1.0)


def check_validation(turns: Sequence[int], last: int, unit: str) -> Finding:
    """Say how often the run is evaluated.

    Args:
        turns: After which epochs or iterations.
        last: The last one of the run.
        unit: ``epochs`` or ``iterations``.
    """
    if not turns:
        return Finding(
            ERROR,
            f"it is never evaluated in {last} {unit}",
            "set train_cfg.val_interval and val_begin, and val_cfg, val_dataloader, val_evaluator",
        )
    if turns[0] >= last:
        return Finding(
            WARNING,
            f"it is evaluated only at the end, after {last} {unit}: the best is the last",
            f"set train_cfg.val_interval to a part of {last}",
        )
    return Finding(OK, f"it is evaluated {counted(len(turns), 'time')} in {last} {unit}")


def check_checkpoints(turns: Sequence[int], last: int, unit: str, interim: bool = False) -> Finding:
    """Say how often a checkpoint is saved.

    Args:
        turns, last, unit: As of :func:`check_validation`.
        interim: Whether others are saved in between, by the clock or by iterations.
    """
    saved = f"a checkpoint is saved {counted(len(turns), 'time')}"
    if interim:
        return Finding(OK, f"{saved}, and others in between")
    if not turns or turns[0] >= last:
        when = "only at the end" if turns else "never"
        return Finding(
            WARNING,
            f"a checkpoint is saved {when}: a run that dies begins anew",
            f"set default_hooks.checkpoint.interval to a part of {last} {unit}",
        )
    return Finding(OK, f"{saved} in {last} {unit}")


def check_save_best(wanted: str | Sequence[str] | None, given: Iterable[str]) -> Finding:
    """Whether the validation gives what the best checkpoint is chosen by.

    Args:
        wanted: ``save_best`` of the checkpoint hook.
        given: Names of the figures that the validation gave.
    """
    keys = [wanted] if isinstance(wanted, str) else list(wanted or ())
    missing = [key for key in keys if key not in {*given, "auto"}]
    if not keys:
        what = "no best checkpoint is kept"
        return Finding(WARNING, what, "set default_hooks.checkpoint.save_best=froc/mean")
    if missing:
        return Finding(
            ERROR,
            f"the validation gives no {', '.join(missing)} to choose the best checkpoint by",
            f"set default_hooks.checkpoint.save_best to one of {', '.join(sorted(given))}",
        )
    return Finding(OK, f"the best checkpoint is chosen by {', '.join(keys)}")


def pretrained_files(model: Any) -> Iterator[str]:
    """Files and URLs of weights that parts of a model's config begin from."""
    if isinstance(model, Mapping):
        if model.get("type") == "Pretrained" and isinstance(model.get("checkpoint"), str):
            yield model["checkpoint"]
        for value in model.values():
            yield from pretrained_files(value)
    elif isinstance(model, list | tuple):
        for value in model:
            yield from pretrained_files(value)


def check_pretrained(sources: Sequence[str], cached: Iterable[str]) -> list[Finding]:
    """Whether the weights that training begins from are there.

    Args:
        sources: Local files, or URLs and names of models.
        cached: Those of the latter that were downloaded already.
    """
    found, cached = [], set(cached)
    for source in dict.fromkeys(sources):
        if "://" not in source and not Path(source).is_file():
            what = f"pretrained weights {source} are not there"
            remedy = "give the right file in init_cfg or load_from, or None to begin from scratch"
            found.append(Finding(ERROR, what, remedy))
        elif "://" in source and source not in cached:
            what = f"pretrained weights {source} are downloaded when training starts"
            remedy = "on a machine without network download them before, and name the file"
            found.append(Finding(WARNING, what, remedy))
        else:
            found.append(Finding(OK, f"pretrained weights {source} are there"))
    return found


def check_workers(workers: int, processes: int, cores: int) -> Finding:
    """Compare data workers with the cores of this machine.

    Args:
        workers: ``num_workers`` of a process.
        processes: Of this machine.
        cores: Logical cores that these may use.
    """
    if not workers:
        return Finding(
            WARNING if cores > processes else OK,
            "no data workers: training waits while images are loaded",
            "set train_dataloader.num_workers" if cores > processes else "",
        )
    what = f"{processes} x {workers} data workers on {cores} cores"
    if processes * workers > cores:
        fitting = max(1, cores // processes)
        return Finding(WARNING, what, f"set train_dataloader.num_workers={fitting} or less")
    return Finding(OK, what)


def check_shared_memory(batch_bytes: int, batches: int, free: int | None) -> Finding:
    """Whether the batches that workers hold ready fit into shared memory.

    Args:
        batch_bytes: Of the tensors of a batch.
        batches: That are held at a time, of all workers of this machine.
        free: Bytes of ``/dev/shm``; None where there is none.
    """
    need = batch_bytes * batches
    what = f"{batches} batches of {batch_bytes / MIB:.1f} MiB wait in shared memory"
    if not batches or free is None:
        return Finding(OK, "no batch waits in shared memory")
    if need > NEARLY_FULL * free:
        return Finding(
            ERROR if need > free else WARNING,
            f"{what}, of which {free / MIB:.0f} MiB are free",
            "enlarge /dev/shm (docker run --shm-size=8g), or take fewer train_dataloader."
            "num_workers",
        )
    return Finding(OK, f"{what}, {free / MIB:.0f} MiB are free")


def check_room(kind: str, need: int, free: int, remedy: str) -> Finding:
    """Whether something fits, with a tenth to spare.

    Args:
        kind: What it is, such as ``checkpoints need``.
        need: Bytes that it takes.
        free: Bytes that there are.
        remedy: What to do where it does not.
    """
    what = f"{kind} {need / GIB:.2f} GiB of {free / GIB:.2f}"
    if need <= NEARLY_FULL * free:
        return Finding(OK, what)
    return Finding(ERROR if need > free else WARNING, what, remedy)
