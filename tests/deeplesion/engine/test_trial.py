"""The trial of a training: its folder, its config, and when it ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from deeplesion.engine.trial import (
    FIRST_STEPS,
    EnoughError,
    Trial,
    TrialHook,
    temporary_folder,
    trial_config,
)


def config(**other: object) -> Config:
    known = {
        "work_dir": "real",
        "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 2, "val_interval": 1},
        "val_dataloader": {"batch_size": 2, "dataset": {"type": "DeepLesionDataset"}},
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "save_best": "froc/mean"}},
        "visualizer": {"name": "visualizer", "vis_backends": [{"type": "CTWandbBackend"}]},
        "load_from": "weights.pth",
    }
    return Config({**known, **other})


def test_folder_is_removed_with_those_made_for_it(tmp_path: Path) -> None:
    with temporary_folder(tmp_path / "a" / "b") as folder:
        (folder / "iter_2.pth").touch()
        assert folder.parent == tmp_path / "a" / "b"
    assert not list(tmp_path.iterdir())


def test_folder_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "epoch_1.pth").touch()
    with pytest.raises(RuntimeError, match="dies"), temporary_folder(tmp_path):
        raise RuntimeError("it dies")
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1.pth"]


def test_config_of_a_trial_writes_nothing_elsewhere(tmp_path: Path) -> None:
    cfg = config()
    trial = trial_config(cfg, tmp_path, 100)
    assert trial.work_dir == str(tmp_path)
    assert [backend["type"] for backend in trial.visualizer.vis_backends] == ["LocalLogBackend"]
    hook = trial.default_hooks.checkpoint
    assert (hook.interval, hook.by_epoch, hook.save_best) == (FIRST_STEPS, False, "auto")
    # Three batches of two, and steps enough even where the run itself has fewer.
    assert trial.val_dataloader.dataset.indices == list(range(6))
    assert trial.train_cfg.max_iters == 6
    assert trial.load_from == "weights.pth"
    assert cfg.work_dir == "real"
    assert "indices" not in cfg.val_dataloader.dataset


def test_places_that_the_config_names_are_left_alone(tmp_path: Path) -> None:
    hooks = {"checkpoint": {"out_dir": "/elsewhere"}, "logger": {"out_dir": "/elsewhere"}}
    metric = {"type": "FROCMetric", "predictions_file": "/elsewhere/predictions.json"}
    train = {"max_epochs": 1}
    cfg = config(default_hooks=hooks, val_evaluator=metric, train_cfg=train)
    trial = trial_config(cfg, tmp_path, 4)
    assert trial.default_hooks.checkpoint.out_dir is None
    assert trial.default_hooks.logger.out_dir is None
    assert trial.val_evaluator.predictions_file is None
    assert trial.val_evaluator.collect_dir == str(tmp_path / "collected")
    assert trial.train_cfg.max_epochs == 6
    assert cfg.val_evaluator.predictions_file == "/elsewhere/predictions.json"


def test_config_to_resume_has_other_names(tmp_path: Path) -> None:
    first = trial_config(config(), tmp_path, 100)
    second = trial_config(config(), tmp_path, 100, resume=True)
    assert second.resume
    assert second.load_from is None
    assert first.experiment_name != second.experiment_name
    assert first.visualizer.name != second.visualizer.name


def test_small_and_wrapped_validation_sets(tmp_path: Path) -> None:
    assert trial_config(config(), tmp_path, 4).val_dataloader.dataset.indices == [0, 1, 2, 3]
    wrapped = {"dataset": {"type": "ConcatDataset", "datasets": []}}
    trial = trial_config(config(val_dataloader=wrapped), tmp_path, 4)
    assert "indices" not in trial.val_dataloader.dataset


def test_run_that_would_be_resumed_begins_anew(tmp_path: Path) -> None:
    trial = trial_config(config(resume=True, load_from="epoch_3.pth"), tmp_path, 4)
    assert (trial.resume, trial.load_from) == (False, None)


def test_hook_measures_all_steps_but_the_first_and_ends() -> None:
    trial = Trial()
    hook = TrialHook(trial, 2)
    hub = MessageHub(f"hub_{uuid4().hex}")
    runner: Any = SimpleNamespace(iter=0, message_hub=hub, train_dataloader=range(9))
    hook.before_train(runner)
    for seconds in (9.0, 1.5):
        hook.before_train_iter(runner, 0)
        hub.update_scalar("train/time", seconds)
        hub.update_scalar("train/data_time", seconds / 3)
        hook.before_save_checkpoint(runner, {})
        loss = torch.tensor(seconds, requires_grad=True)
        hook.after_train_iter(runner, 0, None, {"loss": loss})
    with pytest.raises(EnoughError):
        hook.before_train_iter(runner, 0)
    assert (trial.steps, trial.waits, trial.losses) == ([1.5], [0.5], [9.0, 1.5])
    assert (trial.begun_at, trial.batches_per_epoch) == ([0], 9)
    assert trial.saving > 0
