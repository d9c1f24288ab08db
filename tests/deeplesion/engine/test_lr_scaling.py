"""The learning rate follows the number of images per step."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from deeplesion.engine.lr_scaling import accumulation_of, scale_learning_rates
from deeplesion.engine.runner import CTRunner


def wrapper(rate: float = 0.02, accumulated: int = 1, kind: str = "SGD") -> OptimWrapper:
    """An optimizer with two groups of parameters."""
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate / 10},
    ]
    return OptimWrapper(getattr(torch.optim, kind)(groups), accumulative_counts=accumulated)


def rates(optim_wrapper: OptimWrapper) -> list[float]:
    """The learning rates of the groups."""
    return [group["lr"] for group in optim_wrapper.optimizer.param_groups]


def test_every_group_is_scaled_linearly() -> None:
    own = wrapper()
    assert scale_learning_rates(own, images=2, base_batch_size=8) == 0.25
    assert rates(own) == pytest.approx([0.005, 0.0005])


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_adaptive_optimizers_go_by_the_square_root(kind: str) -> None:
    own = wrapper(kind=kind)
    assert scale_learning_rates(own, images=2, base_batch_size=8) == 0.5
    assert rates(own) == pytest.approx([0.01, 0.001])


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_runner_counts_processes_and_accumulated_batches(processes: int, accumulated: int) -> None:
    own = wrapper(accumulated=accumulated)
    runner = SimpleNamespace(
        _train_dataloader={"batch_size": 2}, world_size=processes, logger=logging.getLogger("t")
    )
    settings = {"enable": True, "base_batch_size": 8}
    CTRunner.scale_lr(runner, own, settings)
    assert rates(own)[0] == pytest.approx(0.02 * 2 * processes * accumulated / 8)


def test_nothing_is_scaled_unasked() -> None:
    own = wrapper()
    CTRunner.scale_lr(SimpleNamespace(), own, {"enable": False, "base_batch_size": 8})
    assert rates(own)[0] == 0.02


def test_several_optimizers_must_agree_on_accumulation() -> None:
    both = OptimWrapperDict(a=wrapper(accumulated=2), b=wrapper(accumulated=2))
    assert accumulation_of(both) == 2
    with pytest.raises(ValueError, match=r"the same everywhere, got \[1, 2\]"):
        accumulation_of(OptimWrapperDict(a=wrapper(), b=wrapper(accumulated=2)))


def test_base_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="base_batch_size must be > 0, got 0"):
        scale_learning_rates(wrapper(), 2, 0)
