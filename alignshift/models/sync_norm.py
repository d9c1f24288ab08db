"""Batch norm over the batches of all processes, on any device.

`torch.nn.SyncBatchNorm` refuses a CPU, and fused dense blocks do not go through modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .stages import NormAtWork, batch_moments

__all__ = ["SyncBatchNorm2d", "is_synchronized", "joint_moments", "pixels_of_processes"]

IMAGES = (0, 2, 3)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose moments in training are those of all processes' batches.

    The gradient by x is that of one process with the whole batch. Those by weight and bias are of
    the own batch, as of every parameter: the processes average or sum them up afterwards.
    """

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
        """A synchronized norm with the parameters and buffers of another one.

        Args:
            norm: With affine parameters and running statistics.
        """
        new = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        new._parameters.update(norm._parameters)
        new._buffers.update(norm._buffers)
        new.train(norm.training)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x, (S, C, H, W)."""
        if not is_synchronized([self]):
            return super().forward(x)
        normalized: Tensor = _normalize(x, self)
        return normalized


def is_synchronized(norms: Iterable[nn.Module]) -> bool:
    """Whether there is a norm that takes its moments from several processes now."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return several and any(isinstance(n, SyncBatchNorm2d) and n.training for n in norms)


def pixels_of_processes(pixels: int, device: torch.device) -> list[int]:
    """How many pixels the batch of each process has.

    Args:
        pixels: Of this process.
        device: Of its tensors.
    """
    own = torch.tensor([pixels], device=device)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, own)
    return [int(count) for count in torch.cat(gathered).tolist()]


def joint_moments(moments: Tensor, pixels: Sequence[int]) -> Tensor:
    """Moments of the batches of all processes together.

    Args:
        moments: Mean and biased variance of the own batch, shape (2, C), of `batch_moments`.
        pixels: Of how many pixels each process took them.

    Returns:
        Shape (2, C).
    """
    gathered = [torch.empty_like(moments) for _ in pixels]
    dist.all_gather(gathered, moments.contiguous())
    means, variances = torch.stack(gathered, dim=1)
    shares = means.new_tensor(pixels).div_(sum(pixels)).unsqueeze(1)
    mean = (shares * means).sum(0)
    return torch.stack([mean, (shares * (variances + (means - mean) ** 2)).sum(0)])


# torch.compiler.disable does the same, but imports the compiler at once, which takes seconds.
@torch._disable_dynamo
def _normalize(x: Tensor, norm: SyncBatchNorm2d) -> Tensor:
    out: Tensor = _JointNorm.apply(x, norm.weight, norm.bias, norm)
    return out


class _JointNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: SyncBatchNorm2d) -> Tensor:
        pixels = pixels_of_processes(x.numel() // max(x.shape[1], 1), x.device)
        moments = joint_moments(batch_moments(x), pixels)
        ctx.work = NormAtWork.of(norm, moments, sum(pixels), joint=True)
        ctx.save_for_backward(x)
        return _affine(x, ctx.work.scale, ctx.work.shift).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        mean = ctx.work.mean[:, None, None]
        sums = torch.stack([grad.sum(IMAGES, dtype=mean.dtype), (grad * (x - mean)).sum(IMAGES)])
        grad_weight, grad_bias, slope, offset = ctx.work.backward(sums)
        grad_x = _affine(grad, ctx.work.scale, offset).addcmul_(x, slope[:, None, None])
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None, None], x, scale[:, None, None])
