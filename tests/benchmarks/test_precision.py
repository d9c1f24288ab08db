"""Tests of the comparison of precisions; its trainings take minutes and are not repeated here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from benchmarks.half_optim_wrapper import CPUFloat16OptimWrapper
from benchmarks.precision import PRECISIONS, holds, markdown, read_losses, write_config


def row(mean: float, not_finite: int = 0) -> dict:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "not_finite": not_finite}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_config_trains_and_tests_in_the_precision(precision: str, tmp_path: Path) -> None:
    write_config(tmp_path / "config.py", precision, iters=40, batch_size=2)
    cfg = Config.fromfile(tmp_path / "config.py")
    assert cfg.optim_wrapper.type == PRECISIONS[precision][0]
    assert cfg.test_cfg.get("dtype", "float32") == precision
    assert [scheduler.end for scheduler in cfg.param_scheduler] == [4, 40]
    assert cfg.train_dataloader.batch_size == 2


def test_float16_steps_on_a_cpu_and_skips_what_is_not_finite() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    wrapper = CPUFloat16OptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 4)).sum()
    assert loss.dtype == torch.float16
    before = model.weight.detach().clone()
    wrapper.update_params(loss.float() / 64)  # the scale begins at 2 ** 16, near the largest half
    torch.testing.assert_close(before - model.weight, torch.full((1, 4), 0.1 / 64))
    stepped, scale = model.weight.detach().clone(), wrapper.scaler.get_scale()
    wrapper.update_params(model(torch.full((1, 4), torch.inf)).sum())
    assert torch.equal(model.weight, stepped)
    assert wrapper.scaler.get_scale() == scale / 2


def test_losses_are_read_from_what_training_logs(tmp_path: Path) -> None:
    lines = [{"train/loss": 2.0, "iter": 1}, {"val/froc/mean": 0.5}, {"train/loss": math.nan}]
    (tmp_path / "scalars.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = read_losses(tmp_path)
    assert first == 2.0
    assert math.isnan(second)


@pytest.mark.parametrize(
    ("half", "good"),
    [(row(0.85), True), (row(0.70), False), (row(0.95), False), (row(0.8, 1), False)],
)
def test_half_precision_must_stay_in_the_interval_and_finite(half: dict, good: bool) -> None:
    assert holds({"float32": row(0.82), "bfloat16": half}) is good


def test_table_is_in_percent() -> None:
    assert "| float32 | 82.0 (72.0-92.0) | 0 |" in markdown({"float32": row(0.82)})
