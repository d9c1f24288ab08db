"""Time and disk of a whole run."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from deeplesion.engine.estimate import (
    Measured,
    checkpoint_bytes,
    disk_need,
    estimate,
    plan_of,
    turns_of,
    validation_batches,
)

MEASURED = Measured(
    step_seconds=[1.2, 1.0, 9.0],
    data_seconds=[0.2, 0.0, 0.0],
    loading_seconds=0.1,
    batch_size=8,
    workers=1,
    validation_seconds=[0.5],
    checkpoint_seconds=2.0,
)


def test_turns() -> None:
    assert turns_of(20, 6) == [6, 12, 18, 20]
    assert turns_of(20, 5, begin=11) == [15, 20]
    assert turns_of(20, 6, at_end=False) == [6, 12, 18]
    assert turns_of(20, -1) == [20]
    assert turns_of(20, 5, begin=21) == []


@given(st.integers(1, 200), st.integers(1, 250), st.integers(0, 250))
def test_turns_are_those_of_the_loops(last: int, interval: int, begin: int) -> None:
    # As mmengine's loops decide after each epoch or iteration.
    expected = [
        turn
        for turn in range(1, last + 1)
        if turn >= begin and (turn % interval == 0 or turn == last)
    ]
    assert turns_of(last, interval, begin) == expected


def test_time_of_a_run() -> None:
    # Median of 1.0, 1.0 and 9.0 s; a batch is loaded in 0.8 s by the one worker, meanwhile.
    found = estimate(MEASURED, 100, validations=3, batches=10, checkpoints=4)
    assert found.step == pytest.approx(1.0)
    assert found.waiting == 0
    assert found.training == pytest.approx(100)
    assert found.validation == pytest.approx(15)
    assert found.saving == 8
    assert found.total == pytest.approx(123)


def test_loading_that_takes_longer_than_computing_sets_the_pace() -> None:
    slow = dataclasses.replace(MEASURED, loading_seconds=0.5)
    assert estimate(slow, 100, 0, 0, 0).step == pytest.approx(4.0)
    assert estimate(slow, 100, 0, 0, 0).waiting == pytest.approx(3.0)
    helped = dataclasses.replace(slow, workers=4)
    assert estimate(helped, 100, 0, 0, 0).step == pytest.approx(1.0)


def test_without_workers_loading_was_measured() -> None:
    alone = dataclasses.replace(MEASURED, workers=0, data_seconds=[0.2, 0.3, 0.4])
    assert estimate(alone, 100, 0, 0, 0).waiting == pytest.approx(0.3)


def test_run_that_is_not_evaluated() -> None:
    never = dataclasses.replace(MEASURED, validation_seconds=[])
    assert estimate(never, 100, 0, 0, 0).validation == 0


def test_disk() -> None:
    assert checkpoint_bytes(100, 40, checkpoints=20, kept=3, best=1) == 440
    assert checkpoint_bytes(100, 40, checkpoints=2, kept=3, best=1) == 240
    assert checkpoint_bytes(100, 40, checkpoints=20, kept=-1, best=0) == 2000


def test_batches_of_the_busiest_process() -> None:
    assert validation_batches(10, 2, 1) == 5
    assert validation_batches(10, 2, 3) == 2
    assert validation_batches(0, 2, 3) == 0


def config(**other: object) -> Config:
    hook = {"interval": 1, "max_keep_ckpts": 3, "save_best": "froc/mean"}
    known = {
        "train_cfg": {"max_epochs": 20, "val_interval": 2},
        "val_cfg": {"type": "ValLoop"},
        "default_hooks": {"checkpoint": hook},
    }
    return Config({**known, **other})


def test_plan_by_epochs() -> None:
    plan = plan_of(config(), 100)
    assert (plan.unit, plan.last, plan.iterations) == ("epochs", 20, 2000)
    assert len(plan.validations) == 10
    assert (plan.saving_unit, len(plan.checkpoints)) == ("epochs", 20)
    assert disk_need(config(), plan, 100, 40) == 440
    # Two that are saved by the clock may be there as well.
    often = config(default_hooks={"checkpoint": {"interval": 1, "every_minutes": 15}})
    assert disk_need(often, plan, 100, 40) == 2200


def test_plan_by_iterations() -> None:
    train = {"max_iters": 500, "val_interval": 200}
    hook = {"checkpoint": {"interval": 100, "by_epoch": False}}
    plan = plan_of(config(train_cfg=train, default_hooks=hook), 7)
    assert (plan.unit, plan.last, plan.iterations) == ("iterations", 500, 500)
    assert plan.validations == [200, 400, 500]
    assert (plan.saving_unit, plan.saving_last) == ("iterations", 500)
    assert len(plan.checkpoints) == 5


def test_plan_without_validation() -> None:
    assert plan_of(config(val_cfg=None), 100).validations == []
