"""Optimizer, learning rates, runtime."""

from __future__ import annotations

from typing import Any

import pytest

from deeplesion.legacy.config_schedule import map_schedule
from deeplesion.legacy.ledger import Ledger, Status
from tests.deeplesion.legacy.mapping import ABSENT, fields, lost

STEPS = {
    "type": "MultiStepLR",
    "by_epoch": True,
    "begin": 0,
    "end": 20,
    "milestones": [9, 16],
    "gamma": 0.1,
}
WARM_UP = {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 500}


def mapped(weights_only: bool = False, **changes: Any) -> Ledger:
    """A ledger with all but the network mapped."""
    values = fields(**changes)
    kept = {k: v for k, v in values.items() if k not in ("model", "train_cfg")}
    ledger = Ledger(kept)
    map_schedule(ledger, weights_only=weights_only)
    return ledger


def test_published_schedule() -> None:
    settings = mapped().settings
    expected = {
        "train_cfg.max_epochs": 20,
        "default_hooks.checkpoint.interval": 1,
        "default_hooks.logger.interval": 100,
        "env_cfg.dist_cfg.backend": "nccl",
        "log_level": "INFO",
        "optim_wrapper.optimizer": {
            "type": "SGD",
            "lr": 0.02,
            "momentum": 0.9,
            "weight_decay": 0.0001,
        },
        "optim_wrapper.clip_grad.max_norm": 35,
        "param_scheduler": [WARM_UP, STEPS],
        "auto_scale_lr.base_batch_size": 8,
        "test_evaluator.iou_threshold": 0.5,
        "val_evaluator.fps": [0.5, 1.0, 2.0, 4.0, 8.0, 16.0],
        "work_dir": "./work_dirs/densenet_3",
    }
    assert {path: settings.get(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("change", "schedulers"),
    [
        ({"step": 8}, [WARM_UP, {**STEPS, "milestones": [8, 16]}]),
        ({"warmup": None}, [STEPS]),
        ({"gamma": 0.5}, [WARM_UP, {**STEPS, "gamma": 0.5}]),
        (
            {"warmup": "constant"},
            [
                {"type": "ConstantLR", "factor": 0.01, "by_epoch": False, "begin": 0, "end": 500},
                STEPS,
            ],
        ),
    ],
)
def test_other_steps(change: dict[str, Any], schedulers: list[dict]) -> None:
    found = mapped(lr_config={**fields()["lr_config"], **change})
    assert found.settings["param_scheduler"] == schedulers
    assert not [field for field in lost(found.in_order()) if field.startswith("lr_config")]


@pytest.mark.parametrize(
    "change", [{"policy": "poly"}, {"warmup": "exp"}, {"step": 0}, {"step": ["a"]}]
)
def test_other_policies_are_reported(change: dict[str, Any]) -> None:
    found = mapped(lr_config={**fields()["lr_config"], **change})
    assert "param_scheduler" not in found.settings
    assert lost(found.in_order())["lr_config.policy"] == "the schedule of the base stays"


def test_optimizers_with_options() -> None:
    options = {"norm_decay_mult": 0.0}
    optimizer = {"type": "AdamW", "lr": 1e-4, "paramwise_options": options}
    settings = mapped(optimizer=optimizer, optimizer_config={"grad_clip": None}).settings
    assert settings["optim_wrapper.optimizer"] == {"type": "AdamW", "lr": 1e-4}
    assert settings["optim_wrapper.paramwise_cfg"] == options
    assert settings["optim_wrapper.clip_grad"] is None


def test_half_precision() -> None:
    settings = mapped(fp16={"loss_scale": 96.0}).settings
    assert settings["optim_wrapper.type"] == "GuardedAmpOptimWrapper"
    assert settings["optim_wrapper.loss_scale"] == 96.0


def test_folders_and_checkpoints_of_a_training() -> None:
    found = mapped(load_from="a.pth", resume_from="b.pth")
    assert (found.settings["load_from"], found.settings["work_dir"]) == (
        "a.pth",
        "./work_dirs/densenet_3",
    )
    assert "cannot be resumed" in lost(found.in_order())["resume_from"]
    found = mapped(weights_only=True, load_from="a.pth", resume_from="b.pth")
    assert not {"load_from", "work_dir"} & found.settings.keys()
    assert found.settings["model.backbone.init_cfg"] is None
    assert {"work_dir", "load_from", "resume_from"}.isdisjoint(lost(found.in_order()))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"new_thing": {"a": 1}}, "new_thing.a"),
        ({"log_config": {"hooks": [{"type": "Mine"}]}}, "log_config.hooks[0].type"),
        ({"workflow": [("train", 1), ("val", 1)]}, "workflow"),
        ({"weights2d_path": "a.pth"}, "weights2d_path"),
        ({"test_cfg__avgFP": ["x"]}, "test_cfg.avgFP"),
    ],
)
def test_unknown_fields_are_reported(change: dict[str, Any], field: str) -> None:
    reported = lost(mapped(**change).in_order())
    assert reported[field] == "nothing here has it"


def test_variables_are_told_where_they_are_used() -> None:
    found = Ledger({"anchor_scales": [1], "mine": {"a": 2}, "other": 3})
    map_schedule(found, used=["mine"])
    notes = {outcome.field: outcome.status for outcome in found.in_order()}
    assert notes == {
        "anchor_scales": Status.DROPPED,
        "mine.a": Status.DROPPED,
        "other": Status.LOST,
    }


def test_without_gpus_the_rate_is_for_the_batch_of_the_base() -> None:
    assert "auto_scale_lr.base_batch_size" not in mapped(GPU=ABSENT).settings
