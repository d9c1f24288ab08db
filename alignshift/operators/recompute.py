"""Mixing the slices again in backward, rather than keep the mixed copy from forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .folding import fold_slices, unfold_slices

if TYPE_CHECKING:
    from .base import SliceConv

__all__ = ["autocast_dtype", "mix_and_convolve"]


def mix_and_convolve(
    layer: SliceConv, x: Tensor, thickness: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Mix slices and convolve each, keeping nothing for backward but the arguments.

    What `torch.utils.checkpoint` does, without its bookkeeping, and with memory for the mixed copy
    that layers share.

    Args:
        layer: An operator with zero padding, whose mixing has no parameters.
        x: Volume of shape (N, C, D, H, W).
        thickness: Shape (N,) or (N, 1), in mm.
        weight: The layer's kernel. An argument, as `torch.func.functional_call` has taken its own
            off the layer again by the time of backward.
        bias: The layer's bias.

    Returns:
        The slices of the result, folded: (N * D, C_out, H', W') in channels_last.
    """
    dtype = autocast_dtype(x)
    if dtype is not None:
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    out: Tensor = _MixAndConvolve.apply(layer, thickness, x, weight, bias)
    return out


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """What autocast has convolutions of ``x`` computed in; ``None`` where it leaves them alone.

    It casts by itself in forward, but not in the backward of a function of our own.
    """
    kind = x.device.type
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if autocast and x.dtype != torch.float64 else None


def _compute(
    layer: SliceConv, thickness: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    # Folded: what a function returns may be changed in place (by a ReLU), but not if it is a view.
    out: Tensor = layer._conv_forward(fold_slices(layer.mix_slices(x, thickness)), weight, bias)
    return out


class _MixAndConvolve(torch.autograd.Function):
    """The convolution's own backward, on slices that are mixed again."""

    @staticmethod
    def forward(layer: SliceConv, *tensors: Any) -> Tensor:
        return _compute(layer, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.layer, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        gradients = _differentiable if torch.is_grad_enabled() else _gradients
        return None, None, *gradients(ctx.layer, ctx.saved_tensors, grad_out, needed)


def _gradients(
    layer: SliceConv, tensors: tuple[Any, ...], grad_out: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """Gradients by x, weight and bias."""
    thickness, x, weight, bias = tensors
    mixed = fold_slices(layer.mix_slices(x, thickness))
    geometry = (layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups)
    bias_shape = None if bias is None else bias.shape
    grad_mixed, *others = torch.ops.aten.convolution_backward(
        grad_out, mixed, weight, bias_shape, *geometry, needed
    )
    if not needed[0]:
        return [None, *others]
    return [layer.unmix_gradient_(unfold_slices(grad_mixed, x.shape[2]), thickness), *others]


def _differentiable(
    layer: SliceConv, tensors: tuple[Any, ...], grad_out: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The same, for gradients of gradients."""
    inputs = [tensor for tensor, need in zip(tensors[1:], needed, strict=True) if need]
    out = _compute(layer, *tensors)
    found = iter(torch.autograd.grad(out, inputs, grad_out, create_graph=True))
    return [next(found) if need else None for need in needed]
