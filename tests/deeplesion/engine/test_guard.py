"""Tests of the hooks that watch for numbers gone wrong."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import EMAHook
from torch import Tensor

import deeplesion  # noqa: F401
from deeplesion.engine.cli import run_tool
from deeplesion.engine.guard import NonFiniteError, NonFiniteGuardHook, SkipCounts
from deeplesion.engine.guarded_step import GuardedStep, SkippedStep
from deeplesion.engine.weight_average import WeightAverageHook
from tests.deeplesion.engine.guarding import States, records_of, runner_of, same
from tests.processes import run_processes

LIMITS = dict(max_in_a_row=2, max_in_all=3)


def test_bad_batches_are_skipped_counted_and_written_down(tmp_path: Path) -> None:
    states = States()
    runner = runner_of(tmp_path, {2, 5}, custom_hooks=[states])
    runner.train()
    assert same(states.kept[0], states.kept[1])
    assert same(states.kept[0], states.kept[2])
    assert not same(states.kept[2], states.kept[3])
    assert SkipCounts.load(runner.message_hub) == SkipCounts(in_all=2, in_a_row=0)
    history = runner.message_hub.get_scalar("train/skipped_steps").data[0]
    assert history.tolist() == [0, 1, 2, 2]
    # What is logged is finite, and what is not bad is logged.
    assert len(runner.message_hub.get_scalar("train/loss_fit").data[0]) == 2
    assert len(runner.message_hub.get_scalar("train/loss_size").data[0]) == 4

    first, second = records_of(tmp_path)
    assert (first["epoch"], first["iter"], second["iter"]) == (1, 2, 3)
    assert (first["skipped_in_all"], second["skipped_in_all"]) == (1, 2)
    assert (first["gradient_norm"], first["loss_scale"]) == ("nan", None)
    assert first["number_of_parameters"] == 4
    assert "layer.weight" in first["parameters"]
    (rank,) = first["ranks"]
    assert rank["rank"] == 0
    assert rank["batches"][0]["losses"] == ["loss", "loss_fit"]
    bad, good = rank["batches"][0]["samples"]
    assert bad == {
        "file_name": "000002_01_01_009.png",
        "series": "s",
        "key_slice": 9,
        "non_finite_voxels": 2,
    }
    assert "non_finite_voxels" not in good


def test_too_many_in_a_row_stop_the_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hooks = dict(guard=dict(type="NonFiniteGuardHook", **LIMITS), logger=None)
    runner = runner_of(tmp_path, {1, 3}, default_hooks=hooks)
    assert run_tool(runner.train) == 1
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: training stopped at iteration 2: ")
    assert "2 steps had a loss or gradient that is not finite, the last 2 in a row" in line
    assert "loss, loss_fit of 000003_01_01_009.png (2 voxels are not finite)" in line
    assert str(tmp_path / "skipped_steps.jsonl") in line
    assert "--resume" in line


def test_counts_survive_a_resumption(tmp_path: Path) -> None:
    checkpoint = dict(type="CheckpointHook", interval=1)
    hooks = dict(checkpoint=checkpoint, logger=None)
    hooks["guard"] = dict(type="NonFiniteGuardHook", **LIMITS)
    runner_of(tmp_path, {0, 4}, default_hooks=dict(hooks)).train()
    again = runner_of(
        tmp_path,
        {0},
        default_hooks=dict(hooks),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        load_from=str(tmp_path / "epoch_1.pth"),
        resume=True,
    )
    with pytest.raises(NonFiniteError, match=r"3 steps .* the last 1 in a row"):
        again.train()
    assert [record["skipped_in_all"] for record in records_of(tmp_path)] == [1, 2, 3]


def test_a_dropped_step_has_the_samples_of_all_its_batches(tmp_path: Path) -> None:
    optim_wrapper = dict(
        type="BFloat16OptimWrapper",
        optimizer=dict(type="SGD", lr=0.1),
        accumulative_counts=2,
    )
    states = States()
    runner_of(tmp_path, {0}, optim_wrapper=optim_wrapper, custom_hooks=[states]).train()
    (record,) = records_of(tmp_path)
    bad, good = record["ranks"][0]["batches"]
    assert (bad["losses"], good["losses"]) == (["loss", "loss_fit"], [])
    assert [s["file_name"][:6] for s in good["samples"]] == ["000002", "000003"]
    assert states.kept[1]["norm.num_batches_tracked"] == 0
    assert states.kept[3]["norm.num_batches_tracked"] == 2


def test_averaged_weights_do_not_count_a_skipped_step(tmp_path: Path) -> None:
    hook = dict(type="WeightAverageHook", momentum=0.1)
    runner = runner_of(tmp_path, {2}, custom_hooks=[hook])
    runner.train()
    (ema,) = [hook for hook in runner.hooks if isinstance(hook, WeightAverageHook)]
    assert ema.ema_model.steps == 3


def test_what_is_not_guarded_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
    runner = runner_of(tmp_path, set(), optim_wrapper=plain, custom_hooks=[EMAHook()])
    warnings: list[str] = []
    runner.logger.addFilter(lambda record: warnings.append(record.getMessage()) or True)
    runner.train()
    assert any("not skipped by OptimWrapper: set optim_wrapper.type" in w for w in warnings)
    assert any("use WeightAverageHook" in w for w in warnings)


def skips(runner: Any, hook: NonFiniteGuardHook, loss: float, **skipped: Any) -> SkipCounts:
    """What a guard counts after one more skipped step."""
    runner.optim_wrapper.skipped = SkippedStep(math.nan, (), **skipped)
    hook.after_train_iter(runner, 0, {}, {"loss": torch.tensor(loss)})
    return SkipCounts.load(runner.message_hub)


def test_overflows_of_float16_count_only_where_the_scale_has_collapsed(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, set())
    fake = SimpleNamespace(
        optim_wrapper=GuardedStep.__new__(GuardedStep),
        message_hub=runner.message_hub,
        logger=logging.getLogger("guard"),
        work_dir=tmp_path,
        epoch=0,
        iter=0,
    )
    fake.optim_wrapper._step_has_begun = False
    hook = NonFiniteGuardHook()
    assert skips(fake, hook, 1.0, loss_scale=256.0, scale_adapts=True) == SkipCounts(0, 0, 1)
    assert not list(tmp_path.glob("*.jsonl"))
    assert skips(fake, hook, 1.0, loss_scale=0.5, scale_adapts=True) == SkipCounts(1, 1, 1)
    assert skips(fake, hook, math.nan, loss_scale=256.0, scale_adapts=True) == SkipCounts(2, 2, 1)
    # A scale that stays would go on for ever.
    assert skips(fake, hook, 1.0, loss_scale=256.0, scale_adapts=False) == SkipCounts(3, 3, 1)


@pytest.mark.parametrize("name", ["max_in_a_row", "max_in_all", "collapsed_scale"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0, got 0"):
        NonFiniteGuardHook(**{name: 0})


def one_of_two(folder: Path) -> tuple[bool, Tensor]:
    """A process of two, the second of which has a bad sample; it says what became of it."""
    rank = dist.get_rank()
    states = States()
    runner = runner_of(
        folder / "work",
        {2} if rank == 1 else set(),
        custom_hooks=[states],
        launcher="pytorch",
        cfg=dict(model_wrapper_cfg=dict(type="MMDistributedDataParallel", device_ids=None)),
    )
    runner.train()
    kept = same(states.kept[0], states.kept[1]) and not same(states.kept[1], states.kept[2])
    return kept, states.kept[-1]["module.layer.weight"]


def test_all_processes_skip_what_is_bad_on_one(tmp_path: Path) -> None:
    (kept, weight), (other_kept, other_weight) = run_processes(one_of_two, 2, tmp_path)
    assert kept
    assert other_kept
    assert torch.equal(weight, other_weight)
    (record,) = records_of(tmp_path / "work")
    assert [rank["rank"] for rank in record["ranks"]] == [0, 1]
    assert [rank["batches"][0]["losses"] for rank in record["ranks"]] == [[], ["loss", "loss_fit"]]
    assert all(len(rank["batches"][0]["samples"]) == 2 for rank in record["ranks"])


def test_averages_stay_sound_where_a_bad_batch_is_one_of_several(tmp_path: Path) -> None:
    optim_wrapper = dict(
        type="GuardedOptimWrapper",
        optimizer=dict(type="SGD", lr=0.1),
        accumulative_counts=2,
    )
    hook = dict(type="WeightAverageHook", momentum=0.1)
    runner = runner_of(tmp_path, {0}, optim_wrapper=optim_wrapper, custom_hooks=[hook])
    runner.train()
    (ema,) = [hook for hook in runner.hooks if isinstance(hook, WeightAverageHook)]
    assert all(bool(value.isfinite().all()) for value in ema.ema_model.state_dict().values())
    # Losses that are not finite are left out of the log in the middle of a step, too.
    assert all(math.isfinite(v) for v in runner.message_hub.get_scalar("train/loss_fit").data[0])
