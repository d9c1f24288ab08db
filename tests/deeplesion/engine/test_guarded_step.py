"""Tests of steps that are skipped where a loss or gradient is not finite."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import Tensor, nn

from deeplesion.engine.guarded_step import KeptBuffers, poison_unless_finite
from deeplesion.engine.optim_wrapper import (
    BFloat16OptimWrapper,
    GuardedAmpOptimWrapper,
    GuardedOptimWrapper,
)
from tests.configs.shrinking import load, shrunk, training_batch

WRAPPERS = [GuardedOptimWrapper, BFloat16OptimWrapper]
# Those with most to go wrong between input and loss: proposals, and matching.
DETECTORS = [
    "tsm/mask-rcnn_tsm-r50-fpn_7x2mm_20e_deeplesion.py",
    "alignshift/dino_alignshift-r50_7x2mm_20e_deeplesion.py",
]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))


def batch(number: int) -> Tensor:
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(number))


def train(wrapper: OptimWrapper, model: nn.Module, data: Tensor) -> None:
    """One iteration."""
    with wrapper.optim_context(model):
        loss = model(data).float().square().mean()
    wrapper.update_params(loss)


def state_of(wrapper: OptimWrapper, model: nn.Module) -> list[Tensor]:
    """Copies of weights, buffers and what the optimizer keeps."""
    momenta = [v for entry in wrapper.optimizer.state.values() for v in entry.values()]
    kept = [*model.state_dict().values(), *(v for v in momenta if isinstance(v, Tensor))]
    return [tensor.clone() for tensor in kept]


def is_same(one: list[Tensor], other: list[Tensor]) -> bool:
    # Weights of DINO that are not initialized may be anything.
    exactly = partial(torch.allclose, rtol=0, atol=0, equal_nan=True)
    return len(one) == len(other) and all(map(exactly, one, other))


def wrapped(kind: type[OptimWrapper], model: nn.Module, **options: object) -> OptimWrapper:
    adam = torch.optim.AdamW(model.parameters(), lr=0.1)
    return kind(optimizer=adam, clip_grad=dict(max_norm=0.5), **options)


@pytest.mark.parametrize(
    "clip",
    [
        None,
        dict(max_norm=0.01),
        dict(max_norm=0.01, norm_type=1),
        dict(type="value", clip_value=1e-3),
    ],
)
def test_steps_are_those_of_mmengine_to_the_bit(clip: dict | None) -> None:
    ends = []
    for kind in (OptimWrapper, GuardedOptimWrapper):
        model = network()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        wrapper = kind(sgd, clip_grad=dict(clip) if clip else None)
        for number in range(3):
            train(wrapper, model, batch(number))
        ends.append(state_of(wrapper, model))
    assert is_same(*ends)


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_skipped_step_changes_nothing(kind: type[OptimWrapper], value: float) -> None:
    model = network()
    wrapper = wrapped(kind, model)
    train(wrapper, model, batch(0))
    before = state_of(wrapper, model)
    spoiled = batch(1)
    spoiled[2, 1] = value
    train(wrapper, model, spoiled)
    assert wrapper.skipped is not None
    assert not math.isfinite(wrapper.skipped.gradient_norm)
    assert "0.weight" in wrapper.skipped.parameters
    assert is_same(state_of(wrapper, model), before)
    assert all(p.grad is None for p in model.parameters())
    train(wrapper, model, batch(2))
    assert wrapper.skipped is None
    assert not is_same(state_of(wrapper, model), before)


def test_only_parameters_with_a_bad_gradient_are_named() -> None:
    model = network()
    wrapper = wrapped(GuardedOptimWrapper, model)
    model[2].bias.register_hook(lambda gradient: gradient * math.inf)
    train(wrapper, model, batch(0))
    assert wrapper.skipped.parameters == ("2.bias",)


def test_an_infinite_loss_with_finite_gradients_is_skipped() -> None:
    model = nn.Linear(1, 1)
    wrapper = wrapped(GuardedOptimWrapper, model)
    with wrapper.optim_context(model):
        loss = model(torch.ones(1, 1)).sum() + math.inf
    wrapper.update_params(loss)
    assert wrapper.skipped is not None


def test_finite_losses_are_not_changed() -> None:
    loss = torch.tensor(0.1, requires_grad=True)
    poisoned = poison_unless_finite(loss)
    poisoned.backward()
    assert (poisoned.item(), loss.grad.item()) == (loss.item(), 1.0)


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_one_bad_batch_drops_the_accumulated_step(bad: int) -> None:
    model = network()
    wrapper = wrapped(GuardedOptimWrapper, model, accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 9)
    before = state_of(wrapper, model)
    for number in range(3):
        train(wrapper, model, batch(number) * (math.nan if number == bad else 1))
        assert wrapper.is_accumulating == (number < 2)
    assert wrapper.skipped is not None
    assert is_same(state_of(wrapper, model), before)
    for number in range(3):
        train(wrapper, model, batch(number))
    assert wrapper.skipped is None
    assert not is_same(state_of(wrapper, model), before)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, GuardedAmpOptimWrapper]:
    """A network, and float16's wrapper with PyTorch's scaler for CPUs."""
    module = "mmengine.optim.optimizer.amp_optimizer_wrapper"
    monkeypatch.setattr(f"{module}.is_cuda_available", lambda: True)
    monkeypatch.setattr(f"{module}.GradScaler", lambda **kw: torch.amp.GradScaler("cpu", **kw))
    model = network()
    return model, wrapped(GuardedAmpOptimWrapper, model, loss_scale=dict(init_scale=4.0))


def scaled_step(model: nn.Module, wrapper: GuardedAmpOptimWrapper, factor: float) -> None:
    # The buffers are kept as in optim_context, which would want a GPU.
    wrapper._kept_buffers.keep(model)
    wrapper._model = model
    wrapper.skipped = None
    wrapper.update_params(model(batch(0)).square().mean() * factor)


def test_scaled_gradients_are_skipped_and_the_scale_halved(
    scaled: tuple[nn.Module, GuardedAmpOptimWrapper],
) -> None:
    model, wrapper = scaled
    before = state_of(wrapper, model)
    scaled_step(model, wrapper, 3e38)
    assert wrapper.skipped is not None
    assert (wrapper.skipped.loss_scale, wrapper.skipped.scale_adapts) == (4.0, True)
    assert wrapper.loss_scaler.get_scale() == 2.0
    assert is_same(state_of(wrapper, model), before)
    scaled_step(model, wrapper, 1.0)
    assert wrapper.skipped is None
    assert wrapper.loss_scaler.get_scale() == 2.0
    assert not is_same(state_of(wrapper, model), before)


def test_scaled_steps_are_those_without_a_scale(
    scaled: tuple[nn.Module, GuardedAmpOptimWrapper],
) -> None:
    model, wrapper = scaled
    scaled_step(model, wrapper, 1.0)
    plain = network()
    train(wrapped(GuardedOptimWrapper, plain), plain, batch(0))
    torch.testing.assert_close(model.state_dict(), plain.state_dict())


@pytest.mark.parametrize("leaf", DETECTORS)
def test_detectors_with_a_bad_voxel_are_left_as_they_were(leaf: str, synthetic_root: Path) -> None:
    cfg = shrunk(load(leaf))
    model = MODELS.build(cfg.model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    data = training_batch(cfg, synthetic_root)
    data["inputs"][0][0, 3, 3] = math.nan
    before = state_of(wrapper, model)
    model.train_step(data, wrapper)
    assert wrapper.skipped is not None
    assert is_same(state_of(wrapper, model), before)


def test_buffers_that_a_module_replaces_are_put_back() -> None:
    model = nn.BatchNorm1d(2)
    kept = KeptBuffers()
    kept.keep(model)
    model.running_mean = torch.tensor([5.0, 6.0])
    kept.restore()
    assert model.running_mean.tolist() == [0.0, 0.0]
    model.running_mean = torch.zeros(3)
    kept.keep(model)
    model.running_mean += 1
    kept.restore()
    assert model.running_mean.tolist() == [0.0, 0.0, 0.0]


def test_a_step_that_goes_on_elsewhere_is_dropped_as_a_whole() -> None:
    model = network()
    before = [buffer.clone() for buffer in model.buffers()]
    wrapper = wrapped(GuardedOptimWrapper, model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    train(wrapper, model, torch.full_like(batch(0), math.nan))
    kept = wrapper.kept_buffers()
    assert is_same(kept, before)
    other = wrapped(GuardedOptimWrapper, model, accumulative_counts=2)
    other.initialize_count_status(model, 1, 4)
    other.go_on(model, kept)
    train(other, model, batch(1))
    assert other.skipped is not None
    assert is_same(list(model.buffers()), before)
    assert other.kept_buffers() == []
