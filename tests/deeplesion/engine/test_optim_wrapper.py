"""bfloat16 training without a GPU."""

from __future__ import annotations

import torch
from torch import nn

from deeplesion.engine.optim_wrapper import BFloat16OptimWrapper


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
