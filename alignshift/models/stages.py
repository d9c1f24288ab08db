"""What happens to features before a convolution of a dense layer, taken apart.

A batch norm is an affine map of each channel, once the moments of a batch are known. Volumes are
laid out (N, D, H, W, C).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alignshift.operators.shift import FoldShift

__all__ = ["NormAtWork", "Place", "Stage", "batch_moments", "fold"]

PIXELS = (0, 1, 2, 3)  # all axes but the channels
#: Stacks, slices and rows of a chunk of a volume.
Place = tuple[slice, slice, slice]


def batch_moments(images: Tensor) -> Tensor:
    """Mean and (biased) variance of each channel.

    Args:
        images: Shape (S, C, H, W), fastest in channels_last.

    Returns:
        Shape (2, C), of at least float32.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    if images.is_cpu:
        # The one reduction over pixels in channels_last that is fast on a CPU.
        moments = torch.ops.aten.batch_norm_update_stats(images, None, None, 0.0)
        return torch.stack(moments)
    var, mean = torch.var_mean(images, (0, 2, 3), correction=0)
    return torch.stack([mean, var])


class NormAtWork(NamedTuple):
    """What a batch norm does to a batch: ``x * scale + shift``.

    Attributes:
        scale: Shape (C,).
        shift: Shape (C,).
        mean: Shape (C,), of the batch or the running one.
        inv_std: Shape (C,), 1 / sqrt(variance + eps).
        pixels: Of how many pixels the moments were taken; 0 for running ones, which are constants
            to backward.
        joint: Whether they are moments of the batches of all processes.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inv_std: Tensor
    pixels: int
    joint: bool = False

    @classmethod
    def of(
        cls, norm: nn.BatchNorm2d, moments: Tensor, pixels: int, joint: bool = False
    ) -> NormAtWork:
        """Normalize as ``norm`` does now; in training its running statistics take the batch in.

        Args:
            norm: With affine parameters and running statistics.
            moments: Of `batch_moments`, shape (2, C); only looked at in training.
            pixels: Of how many pixels those were taken.
            joint: Whether of the batches of all processes.

        Raises:
            ValueError: In training on one pixel, which has no variance.
        """
        assert norm.running_mean is not None
        assert norm.running_var is not None
        if norm.training:
            mean, var = moments
            _track(norm, mean, var, pixels)
        else:
            mean, var, pixels = norm.running_mean, norm.running_var, 0
        inv_std = (var + norm.eps).rsqrt()
        scale = norm.weight.detach() * inv_std
        return cls(scale, norm.bias.detach() - mean * scale, mean, inv_std, pixels, joint)

    def backward(self, sums: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients by the affine parameters, and what the moments of the batch add to that by x.

        Args:
            sums: Sums over pixels of the gradient ``g`` by the result, and of ``g * (x - mean)``,
                shape (2, C).

        Returns:
            Gradient by weight and by bias, ``slope`` and ``offset``, (C,) each: the gradient by x
            is ``g * scale + x * slope + offset``.
        """
        plain, centered = sums
        grad_weight = centered * self.inv_std
        if not self.pixels:
            return grad_weight, plain, torch.zeros_like(plain), torch.zeros_like(plain)
        if self.joint:
            # Through the moments, what is here has an effect on every process.
            sums = sums.clone()
            dist.all_reduce(sums)
        all_plain, all_centered = sums
        slope = -self.scale * self.inv_std * (all_centered * self.inv_std) / self.pixels
        offset = -self.scale * all_plain / self.pixels - slope * self.mean
        return grad_weight, plain, slope, offset


class Stage(NamedTuple):
    """What happens to features before a convolution: batch norm, ReLU and a shift of folds."""

    norm: NormAtWork
    shift: FoldShift | None

    def activate(self, x: Tensor, out: Tensor, place: Place) -> None:
        """Normalize, rectify and mix a chunk.

        Args:
            x: The chunk.
            out: What to write the result into; may be ``x`` itself.
            place: Where it lies.
        """
        torch.addcmul(self.norm.shift, x, self.norm.scale, out=out).relu_()
        if self.shift is not None:
            self.shift.of(place[0]).apply_(out.movedim(-1, 1))

    def backward_(self, grad: Tensor, x: Tensor, mixed: Tensor, place: Place, sums: Tensor) -> None:
        """Take a chunk's gradient back to the result of the norm, in place, and sum it up.

        Args:
            grad: By the mixed chunk; changed.
            x: The chunk before.
            mixed: What `activate` made of it; changed.
            place: Where it lies.
            sums: For `NormAtWork.backward`; changed.
        """
        if self.shift is not None:
            self.shift.of(place[0]).undo_(grad.movedim(-1, 1))
            self._unmix(x, mixed, self.shift.channels)
        torch.ops.aten.threshold_backward.grad_input(grad, mixed, 0, grad_input=grad)
        plain, centered = sums
        plain += grad.sum(PIXELS, dtype=sums.dtype)
        centered += (x - self.norm.mean).mul_(grad).sum(PIXELS)

    def _unmix(self, x: Tensor, mixed: Tensor, channels: slice) -> None:
        """Put the result of the norm where slices were mixed: above 0 where it was not rectified.

        Computing it again takes less time than keeping it.
        """
        scale, shift = self.norm.scale[channels], self.norm.shift[channels]
        torch.addcmul(shift, x[..., channels], scale, out=mixed[..., channels])


def _track(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, pixels: int) -> None:
    """Let running statistics take those of a batch in, as `nn.BatchNorm2d` does."""
    if pixels == 1:
        raise ValueError("batch norms in training need more than 1 value per channel, got 1")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:  # a cumulative average
        momentum = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = var * (pixels / max(pixels - 1, 1))
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


def fold(volume: Tensor) -> Tensor:
    """(N, D, H, W, C) -> (N * D, C, H, W) in channels_last."""
    return volume.flatten(0, 1).movedim(-1, 1)
