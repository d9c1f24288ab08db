"""Deformable convolution (arXiv 1703.06211) and its modulated form (arXiv 1811.11168).

mmcv tells kernel size, groups and ``im2col_step`` as well; torchvision reads the first two off the
shapes and needs no third. ``columns`` and ``ones`` are scratch space of mmcv's own kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from deeplesion.mmcv_kernels.precision import full_precision

Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Convolve at displaced positions.

    Args:
        input: ``(N, C, H, W)``.
        weight: ``(C', C / groups, kH, kW)``.
        offset: ``(N, deform_groups * 2 * kH * kW, H', W')`` in px, y before x.
        output: Filled, ``(N, C', H', W')``.
        columns: Left untouched.
        ones: Left untouched.
        **geometry: ``dH, dW`` (stride), ``padH, padW``, ``dilationH, dilationW`` and what follows
            from the shapes.
    """
    output.copy_(_convolve([input, offset, weight], _plain(geometry)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Gradients by input and offset, written to ``grad_input`` and ``grad_offset``."""
    grads = _gradients([input, offset, weight], grad_output, _plain(geometry))
    grad_input.copy_(grads[0])
    grad_offset.copy_(grads[1])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """Gradient by the weight; ``scale`` times it is added to ``grad_weight``."""
    # mmcv does not hand over the weight: the output is linear in it, so any has the same gradient.
    weight = torch.zeros_like(grad_weight)
    grads = _gradients([input, offset, weight], grad_output, _plain(geometry))
    grad_weight.add_(grads[2], alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Convolve at displaced positions, each sample times a factor.

    Args:
        input: ``(N, C, H, W)``.
        weight: ``(C', C / groups, kH, kW)``.
        bias: ``(C',)``, not read where ``with_bias`` is false.
        ones: Left untouched.
        offset: ``(N, deform_groups * 2 * kH * kW, H', W')`` in px, y before x.
        mask: ``(N, deform_groups * kH * kW, H', W')``, the factors.
        output: Filled, ``(N, C', H', W')``.
        columns: Left untouched.
        **geometry: ``stride_h, stride_w``, ``pad_h, pad_w``, ``dilation_h, dilation_w``,
            ``with_bias`` and what follows from the shapes.
    """
    tensors = [input, offset, weight, mask, *([bias] if geometry["with_bias"] else [])]
    output.copy_(_convolve(tensors, _modulated(geometry)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **geometry: int,
) -> None:
    """Gradients by all inputs, written to the five ``grad_*`` tensors."""
    tensors = [input, offset, weight, mask]
    targets = [grad_input, grad_offset, grad_weight, grad_mask]
    if geometry["with_bias"]:
        tensors, targets = [*tensors, bias], [*targets, grad_bias]
    grads = _gradients(tensors, grad_output, _modulated(geometry))
    for target, grad in zip(targets, grads, strict=True):
        target.copy_(grad)


def _plain(geometry: dict[str, int]) -> Geometry:
    """Stride, padding and dilation as mmcv's plain form names them."""
    return _pairs(geometry, ("dH", "dW"), ("padH", "padW"), ("dilationH", "dilationW"))


def _modulated(geometry: dict[str, int]) -> Geometry:
    """Stride, padding and dilation as mmcv's modulated form names them."""
    names = (("stride_h", "stride_w"), ("pad_h", "pad_w"), ("dilation_h", "dilation_w"))
    return _pairs(geometry, *names)


def _pairs(
    geometry: dict[str, int],
    stride: tuple[str, str],
    padding: tuple[str, str],
    dilation: tuple[str, str],
) -> Geometry:
    """The values of three pairs of names, (vertical, horizontal) each."""
    (dh, dw), (ph, pw), (lh, lw) = stride, padding, dilation
    return (
        (geometry[dh], geometry[dw]),
        (geometry[ph], geometry[pw]),
        (geometry[lh], geometry[lw]),
    )


def _convolve(tensors: Sequence[Tensor], geometry: Geometry) -> Tensor:
    """torchvision's convolution of input, offset, weight and, where given, mask and bias."""
    image, offset, weight, *rest = (full_precision(tensor) for tensor in tensors)
    mask, bias = (*rest, None, None)[:2]
    stride, padding, dilation = geometry
    return deform_conv2d(image, offset, weight, bias, stride, padding, dilation, mask)


def _gradients(
    tensors: Sequence[Tensor], grad_output: Tensor, geometry: Geometry
) -> tuple[Tensor, ...]:
    """Gradients by each of the tensors, by running torchvision's forward again."""
    leaves = [full_precision(tensor).detach().requires_grad_() for tensor in tensors]
    with torch.enable_grad():
        output = _convolve(leaves, geometry)
    return torch.autograd.grad(output, leaves, full_precision(grad_output))
