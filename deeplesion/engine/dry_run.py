"""``tools/train.py --dry-run``: tries a training, estimates the rest, says what looks wrong."""

from __future__ import annotations

import math
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dist import get_world_size, init_dist, is_distributed, is_main_process
from mmengine.registry import init_default_scope

from deeplesion.engine import sanity
from deeplesion.engine.cli import USER_ERRORS, plain_message
from deeplesion.engine.config import UsageError
from deeplesion.engine.data_sanity import (
    DataFacts,
    PipelineFacts,
    check_pipeline,
    check_sets,
    data_facts,
    try_pipeline,
)
from deeplesion.engine.estimate import (
    Estimate,
    Measured,
    Plan,
    disk_need,
    estimate,
    plan_of,
    saves_between,
    validation_batches,
)
from deeplesion.engine.lr_scaling import ADAPTIVE
from deeplesion.engine.machine import local_processes, usable_cores
from deeplesion.engine.sanity import ERROR, OK, WARNING, Finding
from deeplesion.engine.trial import FIRST_STEPS, MORE_STEPS, Trial, run_trial
from deeplesion.engine.wording import counted, duration
from deeplesion.inference.memory import free_memory, is_out_of_memory
from deeplesion.models.pretrained import resolve_checkpoint

#: Images that the pipeline is tried on, and seconds after which no further one is begun.
SAMPLED_IMAGES, SAMPLING_SECONDS = 64, 15.0
SHARED_MEMORY = Path("/dev/shm")
GIB, MIB = 1 << 30, 1 << 20
COLUMN = 12
GRACE_SECONDS = 5.0


@dataclass
class DataReport:
    """What was found out about the data.

    Attributes:
        sets: Training and, where there is one, validation set.
        sampled: What the training pipeline made of some images.
        findings: What looks wrong in them, and what does not.
    """

    sets: list[DataFacts] = field(default_factory=list)
    sampled: PipelineFacts = field(default_factory=PipelineFacts)
    findings: list[Finding] = field(default_factory=list)


def dry_run(cfg: Config) -> None:
    """Try a training as it would be run, print what it needs, and what looks wrong.

    Args:
        cfg: As it would be trained with.

    Raises:
        UsageError: Something is wrong with which training should not be begun.
    """
    if cfg.get("launcher", "none") != "none" and not is_distributed():
        init_dist(cfg.launcher, **cfg.get("env_cfg", {}).get("dist_cfg", {"backend": "nccl"}))
    init_default_scope(cfg.get("default_scope", "mmdet"))
    # By every process: what fails here fails everywhere with the same line, and none waits.
    train_set = DATASETS.build(cfg.train_dataloader.dataset)
    val_set = DATASETS.build(cfg.val_dataloader.dataset) if cfg.get("val_dataloader") else None
    data = DataReport()
    # The other processes begin the trial meanwhile, and wait there.
    if is_main_process():
        data = look_at_data(train_set, val_set)
    trial, failure = _tried(cfg, len(val_set) if val_set is not None else 0)
    if is_main_process():
        _conclude(cfg, *_assess(cfg, data, trial, failure))
    elif trial is None:
        # Else the launcher would end the main process before it has said what it found.
        time.sleep(GRACE_SECONDS)
        raise UsageError(failure.what)


def look_at_data(train_set: Any, val_set: Any = None) -> DataReport:
    """Look over annotations of data sets of mmdetection, and what the training pipeline does."""
    sets = [data_facts("train", train_set)]
    sets += [data_facts("val", val_set)] if val_set is not None else []
    sampled = try_pipeline(train_set, SAMPLED_IMAGES, SAMPLING_SECONDS)
    findings = check_sets(sets[0], sets[1] if len(sets) > 1 else None)
    return DataReport(sets, sampled, [*findings, *check_pipeline(sampled)])


def check_config(cfg: Config, sampled: PipelineFacts) -> list[Finding]:
    """Look over what can be told without a step."""
    loader, processes = cfg.train_dataloader, local_processes()
    workers = loader.get("num_workers", 0)
    batch = sampled.image_bytes * loader.get("batch_size", 1)
    held = processes * workers * loader.get("prefetch_factor", sanity.PREFETCH)
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None
    sources = [*sanity.pretrained_files(cfg.model), *filter(None, [cfg.get("load_from")])]
    return [
        sanity.check_learning_rate(scale_of(cfg)),
        sanity.check_workers(workers, processes, usable_cores()),
        sanity.check_shared_memory(batch, held, free),
        *sanity.check_pretrained(sources, [s for s in sources if is_cached(s)]),
    ]


def check_trial(cfg: Config, trial: Trial, plan: Plan) -> list[Finding]:
    """Look over what the first steps showed."""
    epochs = plan.last if plan.unit == "epochs" else None
    schedulers = cfg.get("param_scheduler") or []
    schedulers = [schedulers] if isinstance(schedulers, dict) else schedulers
    hook = cfg.get("default_hooks", {}).get("checkpoint") or {}
    found = [
        *sanity.check_schedule(schedulers, plan.iterations, epochs),
        sanity.check_validation(plan.validations, plan.last, plan.unit),
        sanity.check_checkpoints(
            plan.checkpoints, plan.saving_last, plan.saving_unit, saves_between(hook)
        ),
        check_losses(trial.losses),
        check_resume(trial.begun_at),
    ]
    if trial.metrics is not None:
        found.append(sanity.check_save_best(hook.get("save_best"), trial.metrics))
    return found


def check_losses(losses: Sequence[float]) -> Finding:
    """Whether the losses of the first steps are numbers."""
    if all(map(math.isfinite, losses)):
        return Finding(OK, f"losses of the first steps are finite, {losses[0]:.3g} at first")
    text = ", ".join(f"{loss:.3g}" for loss in losses)
    remedy = "look at the data, the learning rate and its warm-up; try without --amp"
    return Finding(ERROR, f"losses of the first steps are {text}", remedy)


def check_resume(begun_at: Sequence[int]) -> Finding:
    """Whether the second start went on where the checkpoint was saved."""
    if list(begun_at) == [0, FIRST_STEPS]:
        return Finding(OK, f"a checkpoint was saved after {FIRST_STEPS} steps and gone on from")
    what = f"starts began at iterations {list(begun_at)}, not at 0 and {FIRST_STEPS}"
    return Finding(ERROR, what, "look at the hooks and loops of the config: resuming does not work")


def scale_of(cfg: Config) -> sanity.Scale:
    """Images of a step, and for how many the learning rate is."""
    scaling, wrapper = cfg.get("auto_scale_lr") or {}, cfg.optim_wrapper
    return sanity.Scale(
        batch_size=cfg.train_dataloader.get("batch_size", 1),
        processes=get_world_size(),
        accumulation=wrapper.get("accumulative_counts", 1),
        rate=(wrapper.get("optimizer") or {}).get("lr"),
        base_batch_size=scaling.get("base_batch_size"),
        scaled=bool(scaling.get("enable")),
        adaptive=(wrapper.get("optimizer") or {}).get("type") in {o.__name__ for o in ADAPTIVE},
    )


def estimated(
    cfg: Config, trial: Trial, plan: Plan, sampled: PipelineFacts, batches: int
) -> Estimate:
    """The time of the whole run."""
    loader = cfg.train_dataloader
    each = max(1, usable_cores() // local_processes())
    measured = Measured(
        step_seconds=trial.steps,
        data_seconds=trial.waits,
        loading_seconds=sampled.seconds / max(sampled.images, 1),
        batch_size=loader.get("batch_size", 1),
        workers=min(loader.get("num_workers", 0), each),
        validation_seconds=trial.batches,
        checkpoint_seconds=trial.saving,
    )
    return estimate(
        measured, plan.iterations, len(plan.validations), batches, len(plan.checkpoints)
    )


def is_cached(source: str) -> bool:
    """Whether the weights of a URL or of a model's name were downloaded already."""
    try:
        name = resolve_checkpoint(source).rpartition("/")[2]
    except (ValueError, KeyError):
        return False
    return "://" in source and (Path(torch.hub.get_dir()) / "checkpoints" / name).is_file()


def _tried(cfg: Config, validation_images: int) -> tuple[Trial | None, Finding]:
    """The trial, or what it failed with."""
    try:
        return run_trial(cfg, validation_images), Finding(OK, "")
    except USER_ERRORS as error:
        return None, Finding(ERROR, f"the trial stopped: {plain_message(error)}")
    except Exception as error:  # what a training dies of is what is looked for
        if is_out_of_memory(error):
            remedy = "take a smaller train_dataloader.batch_size with accumulation, or --amp"
            return None, Finding(ERROR, "a step does not fit into memory", remedy)
        traceback.print_exc(file=sys.stderr)
        what = f"the trial stopped: {type(error).__name__}: {error}".splitlines()[0]
        return None, Finding(ERROR, what, "see the traceback")


def _check_room(cfg: Config, trial: Trial, need: int) -> list[Finding]:
    folder = Path(cfg.work_dir).absolute()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(above).free
    remedy = "set default_hooks.checkpoint.max_keep_ckpts, or --work-dir on a larger disk"
    found = [sanity.check_room("checkpoints need", need, free, remedy)]
    ram = round(trial.ram_mib * MIB) * local_processes()
    remedy = "take a smaller batch_size, or fewer processes and workers"
    room = free_memory(torch.device("cpu")) + ram
    found.append(sanity.check_room("processes take RAM of", ram, room, remedy))
    if torch.cuda.is_available():
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        remedy = "take a smaller batch_size, with accumulation, or --amp: larger images come"
        gpu = round(trial.gpu_mib * MIB)
        found.append(sanity.check_room("tensors take memory of the GPU,", gpu, whole, remedy))
    return found


def _assess(
    cfg: Config, data: DataReport, trial: Trial | None, failure: Finding
) -> tuple[list[str], list[Finding]]:
    """Lines of the report, and all that was found."""
    lines = [f"{facts.name:<{COLUMN}}{facts}" for facts in data.sets]
    findings = [*data.findings, *check_config(cfg, data.sampled)]
    if trial is None:
        return lines, [*findings, failure]
    plan = plan_of(cfg, trial.batches_per_epoch)
    need = disk_need(cfg, plan, trial.checkpoint_bytes, trial.weight_bytes)
    findings += [*check_trial(cfg, trial, plan), *_check_room(cfg, trial, need)]
    batch_size = (cfg.get("val_dataloader") or {}).get("batch_size", 1)
    images = len(data.sets[1].files) if len(data.sets) > 1 else 0
    batches = validation_batches(images, batch_size, get_world_size())
    total = estimated(cfg, trial, plan, data.sampled, batches)
    return [*lines, *_trial_lines(scale_of(cfg), trial, plan, total, need)], findings


def _trial_lines(
    scale: sanity.Scale, trial: Trial, plan: Plan, total: Estimate, need: int
) -> list[str]:
    share = 100 * total.waiting / total.step if total.step else 0.0
    speed = scale.batch_size * scale.processes / max(total.step, 1e-9)
    epochs = f"{counted(plan.last, 'epoch')}, " if plan.unit == "epochs" else ""
    gpu = f"GPU {trial.gpu_mib / 1024:.2f} GiB, " if trial.gpu_mib else ""
    rows = {
        "steps": f"{FIRST_STEPS} and, resumed, {MORE_STEPS}, of {counted(scale.images, 'image')}: "
        f"batch of {scale.batch_size} x {counted(scale.processes, 'process', 'processes')} x "
        f"{scale.accumulation} accumulated",
        "a step": f"{total.step:.3f} s, {share:.0f} % of it waiting for data: {speed:.2f} images "
        "per second",
        "memory": f"{gpu}RAM {trial.ram_mib / 1024:.2f} GiB, per process at most",
        "checkpoint": f"{trial.checkpoint_bytes / MIB:.1f} MiB, saved in {trial.saving:.2f} s",
        "whole run": f"about {duration(total.total)}: {epochs}"
        f"{counted(plan.iterations, 'step')} {duration(total.training)}, "
        f"{counted(len(plan.validations), 'validation')} {duration(total.validation)}, "
        f"{counted(len(plan.checkpoints), 'checkpoint')} {duration(total.saving)}",
        "disk": f"{need / GIB:.2f} GiB for checkpoints at most",
    }
    return [f"{name:<{COLUMN}}{text}" for name, text in rows.items()]


def _conclude(cfg: Config, report: Sequence[str], findings: Sequence[Finding]) -> None:
    order = (OK, WARNING, ERROR)
    findings = sorted(findings, key=lambda finding: order.index(finding.level))
    name = Path(cfg.filename or "config").name
    print("\n".join([f"dry run of {name}", *report, "", *map(str, findings)]), flush=True)
    errors = sum(finding.level == ERROR for finding in findings)
    warnings = sum(finding.level == WARNING for finding in findings)
    counts = f"{counted(errors, 'error')} and {counted(warnings, 'warning')}"
    if errors:
        raise UsageError(f"the dry run found {counts}, see above")
    print(f"\nthe dry run found {counts}")
