"""bfloat16 training without a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from mmdet.registry import LOOPS
from torch import nn
from torch.utils.data import DataLoader

from deeplesion.engine.optim_wrapper import AutocastTestLoop, BFloat16OptimWrapper


def test_forward_runs_in_bfloat16_and_weights_stay_float32() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.detach().clone()
    wrapper = BFloat16OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        output = model(torch.ones(3, 4))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().sum())
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(model.weight, before - 0.1 * 3, rtol=0, atol=1e-2)


def test_accumulates_gradients() -> None:
    model = nn.Linear(1, 1, bias=False)
    start = model.weight.item()
    wrapper = BFloat16OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=2
    )
    wrapper.initialize_count_status(model, 0, 2)
    for expected in (start, start - 1):
        with wrapper.optim_context(model):
            loss = model(torch.ones(1, 1)).float().mean()
        wrapper.update_params(loss)
        assert abs(model.weight.item() - expected) < 1e-2


class Probe(nn.Linear):
    """A layer that tells the type that it computes in."""

    def test_step(self, batch: torch.Tensor) -> list[torch.dtype]:
        return [self(batch).dtype]


def test_evaluation_runs_in_the_type_asked_for() -> None:
    seen, hooks = [], []
    evaluator = SimpleNamespace(process=lambda data_samples, data_batch: seen.extend(data_samples))
    runner = SimpleNamespace(
        model=Probe(4, 2),
        visualizer=SimpleNamespace(),
        call_hook=lambda name, **_: hooks.append(name),
    )
    loop = AutocastTestLoop(runner, DataLoader(torch.ones(1, 4)), evaluator, dtype="bfloat16")
    loop.run_iter(0, torch.ones(1, 4))
    assert seen == [torch.bfloat16]
    assert hooks == ["before_test_iter", "after_test_iter"]
    assert LOOPS.get("AutocastTestLoop") is AutocastTestLoop
