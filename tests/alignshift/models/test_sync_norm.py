"""Batch norms over processes: the moments and gradients of one process with the whole batch."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from alignshift.models import DenseNetCustomTrunc3dAlign
from alignshift.models.dense_block import DenseLayer
from alignshift.models.sync_norm import SyncBatchNorm2d, joint_moments
from tests.processes import run_processes

# Images of each of two processes; they need not have as many.
SPLIT = (3, 1)


def synchronized(module: nn.Module) -> nn.Module:
    """A module whose batch norms are synchronized."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(module, name, SyncBatchNorm2d.of(child))
        else:
            synchronized(child)
    return module


def step(network: nn.Module, x: Tensor, weights: Tensor) -> list[Tensor]:
    """Output, gradients by x and by the parameters, and running statistics of one step.

    In a process group each process takes its part of the batch, and the gradients by the parameters
    are summed up as DDP would.
    """
    joint = dist.is_initialized()
    if joint:
        rank = dist.get_rank()
        x, weights = (tensor.split(SPLIT)[rank] for tensor in (x, weights))
    x = x.clone().requires_grad_()
    out = network(x)
    (out * weights).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    if joint:
        for gradient in gradients:
            dist.all_reduce(gradient)
    return [out.detach(), x.grad, *gradients, *network.buffers()]


class Stack(nn.Module):
    """The dense blocks of a small network, for images (N, 1, H, W) as stacks of one slice."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        settings = {"num_init_features": 8, "growth_rate": 8, "block_config": (2, 1, 1)}
        self.net = DenseNetCustomTrunc3dAlign(in_channels=1, fused=fused, **settings)

    def forward(self, x: Tensor) -> Tensor:
        """The last map."""
        return self.net(x.unsqueeze(2), torch.full((len(x), 1), 5.0))[-1]


def networks() -> dict[str, nn.Module]:
    """What is normalized, by name."""
    torch.manual_seed(0)
    norm = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    return {"norm": norm, "layers": Stack(fused=False), "fused block": Stack(fused=True)}


@pytest.mark.parametrize("name", networks())
def test_two_processes_are_one(name: str) -> None:
    network = networks()[name].double()
    x = torch.randn(sum(SPLIT), 1, 32, 32, dtype=torch.float64)
    weights = torch.randn(network.eval()(x).shape, dtype=torch.float64)
    network.train()
    both = run_processes(step, 2, synchronized(networks()[name].double()).train(), x, weights)
    alone = step(network, x, weights)
    for index, expected in enumerate(alone):
        if index < 2:
            found = torch.cat([results[index] for results in both])
        else:
            assert torch.equal(both[0][index], both[1][index])
            found = both[0][index]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def moments_together(moments: list[Tensor], pixels: list[int]) -> Tensor:
    """Moments of all processes, in one of them."""
    return joint_moments(moments[dist.get_rank()], pixels)


def test_moments_by_hand() -> None:
    # Values 0 and 2, and 5: mean 7 / 3, mean square 29 / 3.
    moments = [torch.tensor([[1.0], [1.0]]), torch.tensor([[5.0], [0.0]])]
    (found, other) = run_processes(moments_together, 2, moments, [2, 1])
    assert torch.equal(found, other)
    assert found.flatten().tolist() == pytest.approx([7 / 3, 29 / 3 - 49 / 9])


def test_one_process_normalizes_as_ever() -> None:
    norm = nn.BatchNorm2d(2)
    x = torch.randn(2, 2, 3, 3)
    other = SyncBatchNorm2d.of(norm)
    assert other.weight is norm.weight
    torch.testing.assert_close(other(x), nn.BatchNorm2d(2)(x))


def test_settings_and_mode_are_kept() -> None:
    norm = nn.BatchNorm2d(2, eps=1e-3, momentum=0.3).eval()
    other = SyncBatchNorm2d.of(norm)
    assert (other.eps, other.momentum, other.training) == (1e-3, 0.3, False)
    assert list(other.state_dict()) == list(norm.state_dict())


def test_synchronized_blocks_run_fused() -> None:
    stack = synchronized(Stack(fused=True))
    called = []
    layer = next(module for module in stack.modules() if isinstance(module, DenseLayer))
    layer.conv1.forward = lambda *_: called.append(1)
    stack(torch.randn(2, 1, 32, 32))
    assert not called
