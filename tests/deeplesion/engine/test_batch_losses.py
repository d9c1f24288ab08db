"""Losses of the whole batch in the logs."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import mmengine.dist as dist
import torch

from deeplesion.engine.batch_losses import BatchLossHook, mean_over_processes
from deeplesion.engine.guard import NonFiniteGuardHook
from deeplesion.engine.guarded_step import GuardedStep
from tests.processes import run_processes


class Hub:
    """Takes what is to be logged."""

    def __init__(self) -> None:
        self.scalars: dict[str, list[float]] = defaultdict(list)

    def update_scalar(self, name: str, value: float) -> None:
        """Note it."""
        self.scalars[name].append(value)


def logged() -> tuple[dict[str, list[float]], dict[str, float]]:
    """What is logged, and what the outputs are afterwards."""
    rank = dist.get_rank()
    outputs = {"loss": torch.tensor(1.5 + rank, requires_grad=True), "acc": 10.0 * rank}
    outputs["loss_x"] = torch.tensor([math.inf if rank else 1.0])
    hub = Hub()
    BatchLossHook().after_train_iter(SimpleNamespace(message_hub=hub), 0, outputs=outputs)
    return dict(hub.scalars), {n: float(torch.as_tensor(v).detach()) for n, v in outputs.items()}


def test_means_over_processes_are_logged_and_outputs_left_alone() -> None:
    (first, own), (second, other) = run_processes(logged, 2)
    assert first == second == {"train/loss": [2.0], "train/acc": [5.0], "train/loss_x": [math.inf]}
    assert (own["loss"], other["loss"]) == (1.5, 2.5)


def test_one_process_logs_what_it_has() -> None:
    scalars, _ = logged()
    expected = {"train/loss": 1.5, "train/acc": 0.0, "train/loss_x": 1.0}
    assert {n: float(torch.as_tensor(v).detach()) for n, (v,) in scalars.items()} == expected


def test_of_nothing_there_is_no_mean() -> None:
    assert mean_over_processes({}) == {}


def lacking() -> tuple[dict[str, float], dict[str, list[float]]]:
    """Means where processes lack numbers, and what is logged where one is not finite on one."""
    rank = dist.get_rank()
    values = {"loss": 1.0 + rank, "acc": 4.0} if rank else {"loss_box": 2.0, "loss": 1.0 + rank}
    means = mean_over_processes(values)
    outputs = {"loss": torch.tensor(math.nan if rank else 3.0), "acc": torch.tensor(1.0 + rank)}
    hub = Hub()
    wrapper = GuardedStep.__new__(GuardedStep)
    wrapper._step_has_begun = True  # more batches are to come
    runner = SimpleNamespace(message_hub=hub, optim_wrapper=wrapper)
    for hook in (NonFiniteGuardHook(), BatchLossHook()):
        hook.after_train_iter(runner, 0, outputs=outputs)
    return means, dict(hub.scalars)


def test_what_a_process_lacks_is_the_mean_of_the_others() -> None:
    first, second = run_processes(lacking, 2)
    assert first == second
    assert first[0] == {"loss_box": 2.0, "loss": 1.5, "acc": 4.0}
    assert first[1] == {"train/loss": [3.0], "train/acc": [1.5]}
