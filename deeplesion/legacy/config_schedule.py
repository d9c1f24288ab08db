"""The training of an old config: optimizer, learning rates, runtime."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from deeplesion.legacy.ledger import Ledger, Status, is_read

__all__ = ["map_schedule"]

FIELDS = {
    "total_epochs": "train_cfg.max_epochs",
    "evaluation.interval": "train_cfg.val_interval",
    "checkpoint_config.interval": "default_hooks.checkpoint.interval",
    "log_config.interval": "default_hooks.logger.interval",
    "dist_params.backend": "env_cfg.dist_cfg.backend",
    "log_level": "log_level",
    "cudnn_benchmark": "env_cfg.cudnn_benchmark",
    "seed": "randomness.seed",
    "test_cfg.iou_th_astrue": "test_evaluator.iou_threshold",
}
# Kept by those who train, of no use to those who got the weights alone.
OF_THE_RUN = ("work_dir", "load_from", "resume_from")
LOGGERS = ("TextLoggerHook", "TensorboardLoggerHook")
WARM_UPS = {"linear": "LinearLR", "constant": "ConstantLR"}
GAMMA = 0.1
TRAINING_ALONE = ([("train", 1)], [["train", 1]])
ELSEWHERE = "it stands where it is used"
NOTHING_SET = "nothing is set"
# Variables of the published configs; used by their other fields.
VARIABLES = (
    "anchor_scales",
    "dataset_transform",
    "input_channel",
    "feature_channel",
    "dataset_type",
    "img_norm_cfg",
    "pre_pipeline",
    "pre_pipeline_test",
    "train_pipeline",
    "test_pipeline",
)
WITHOUT_EFFECT = ("gpus", "gpu_ids", "description", "find_unused_parameters")


def map_schedule(ledger: Ledger, used: Iterable[str] = (), weights_only: bool = False) -> None:
    """Map what trains a network, and what is left of the config.

    Args:
        ledger: Of the whole config.
        used: Names of variables.
        weights_only: Whether the config is for published weights: folders and checkpoints of their
            training are left out, and those of ImageNet.
    """
    for field, setting in FIELDS.items():
        ledger.map(field, setting)
    _map_optimizer(ledger)
    _map_learning_rate(ledger)
    _map_batch(ledger)
    _map_logging(ledger)
    if weights_only:
        ledger.drop(OF_THE_RUN, "it belongs to the run that made the weights")
        ledger.settings["model.backbone.init_cfg"] = None
    else:
        _map_run(ledger)
    for name in {*VARIABLES, *used}:
        ledger.drop((f for f in ledger.below(name) if f not in ledger.outcomes), ELSEWHERE)
    for name in WITHOUT_EFFECT:
        ledger.drop(ledger.below(name), "it changes nothing")
    if ledger.get("weights2d_path", (None,)) in ((None,), [None], None):
        ledger.drop("weights2d_path", NOTHING_SET)
    for field in ledger.open_fields():
        ledger.lose(field, "nothing here has it")


def _map_optimizer(ledger: Ledger) -> None:
    optimizer, wrapper = ledger.get("optimizer"), "optim_wrapper"
    if isinstance(optimizer, Mapping) and is_read(optimizer):
        new = dict(optimizer)
        if options := new.pop("paramwise_options", None):
            ledger.settings[f"{wrapper}.paramwise_cfg"] = options
        ledger.settings[f"{wrapper}.optimizer"] = new
        for field in ledger.below("optimizer"):
            name = field.replace("paramwise_options", "paramwise_cfg")
            renamed = name if name != field else f"optimizer.{field.removeprefix('optimizer.')}"
            setting = name.removeprefix("optimizer.") if name != field else renamed
            ledger.note(field, Status.MAPPED, f"{wrapper}.{setting}")
    clip = ledger.get("optimizer_config.grad_clip")
    if clip is None:
        ledger.drop("optimizer_config.grad_clip", "gradients are not clipped")
        if "optimizer_config" in ledger.values:
            ledger.settings[f"{wrapper}.clip_grad"] = None
    for field in ledger.below("optimizer_config.grad_clip") if clip is not None else ():
        ledger.map(field, f"{wrapper}.clip_grad{field.removeprefix('optimizer_config.grad_clip')}")
    if (scale := ledger.get("fp16.loss_scale")) is not None:
        ledger.settings[f"{wrapper}.type"] = "GuardedAmpOptimWrapper"
        ledger.map("fp16.loss_scale", f"{wrapper}.loss_scale", scale, "GuardedAmpOptimWrapper")


def _map_learning_rate(ledger: Ledger) -> None:
    """Map warm-up and steps to two schedulers; what there is no name for leaves the base's."""
    old, epochs = ledger.get("lr_config"), ledger.get("total_epochs")
    known = isinstance(old, Mapping) and is_read(old) and isinstance(epochs, int)
    steps = _milestones(old.get("step"), epochs) if known else None
    warm_up = _warm_up(old) if known else None
    if known and steps is not None and warm_up is not None and old.get("policy") == "step":
        kinds = [one["type"] for one in warm_up]
        for key in ("warmup", "warmup_iters", "warmup_ratio"):
            ledger.note(f"lr_config.{key}", Status.MAPPED, f"param_scheduler: {kinds or 'none'}")
        for key in ("policy", "step", "gamma"):
            ledger.note(f"lr_config.{key}", Status.MAPPED, "param_scheduler: MultiStepLR")
        decay = {
            "type": "MultiStepLR",
            "by_epoch": True,
            "begin": 0,
            "end": epochs,
            "milestones": steps,
            "gamma": old.get("gamma", GAMMA),
        }
        ledger.settings["param_scheduler"] = [*warm_up, decay]
    for field in ledger.below("lr_config"):
        if field not in ledger.outcomes:
            ledger.lose(field, "the schedule of the base stays")


def _milestones(steps: Any, epochs: int) -> list[int] | None:
    """Epochs after which the rate drops; None where that is not said."""
    if isinstance(steps, int):
        return list(range(steps, epochs, steps)) if steps > 0 else None
    if isinstance(steps, list | tuple) and all(isinstance(step, int) for step in steps):
        return list(steps)
    return None


def _warm_up(old: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The scheduler of the warm-up, if there is one; None where there is none of its kind."""
    kind, length = old.get("warmup"), old.get("warmup_iters", 0)
    if kind is None:
        return []
    if not isinstance(kind, str) or kind not in WARM_UPS or not isinstance(length, int):
        return None
    name = WARM_UPS[kind]
    factor = {"LinearLR": "start_factor", "ConstantLR": "factor"}[name]
    start = old.get("warmup_ratio", GAMMA)
    return [{"type": name, factor: start, "by_epoch": False, "begin": 0, "end": length}]


def _map_batch(ledger: Ledger) -> None:
    """The number of images per step, for which a learning rate is, from the list of GPUs."""
    gpus, images = ledger.get("GPU"), ledger.get("data.imgs_per_gpu")
    if isinstance(gpus, str | int) and isinstance(images, int):
        number = len(re.findall(r"\d+", str(gpus)))
        ledger.map("GPU", "auto_scale_lr.base_batch_size", number * images)


def _map_logging(ledger: Ledger) -> None:
    for field in ledger.below("log_config.hooks"):
        if ledger.fields[field] in LOGGERS:
            ledger.drop(field, "both are written")
    rates = ledger.get("test_cfg.avgFP")
    numbers = isinstance(rates, list | tuple) and all(isinstance(r, int | float) for r in rates)
    if numbers and rates:
        ledger.map("test_cfg.avgFP", "test_evaluator.fps", [float(rate) for rate in rates])
    for name in ("iou_threshold", "fps"):
        if f"test_evaluator.{name}" in ledger.settings:
            value = ledger.settings[f"test_evaluator.{name}"]
            ledger.settings[f"val_evaluator.{name}"] = value
    if ledger.get("workflow") in TRAINING_ALONE:
        ledger.drop(ledger.below("workflow"), "validation is a loop of its own")


def _map_run(ledger: Ledger) -> None:
    """Map folders and checkpoints of the training."""
    for name in ("load_from", "resume_from"):
        if ledger.get(name) is None:
            ledger.drop(name, NOTHING_SET)
    if ledger.get("work_dir") is not None:
        ledger.map("work_dir", "work_dir")
    if ledger.get("load_from") is not None:
        ledger.map("load_from", "load_from", note="convert it by tools/convert_checkpoint.py")
    if ledger.get("resume_from") is not None:
        why = "a training of the published code cannot be resumed: convert the checkpoint, then "
        ledger.lose("resume_from", f"{why}train from it by load_from")
