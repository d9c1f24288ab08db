"""Multi-scale deformable attention (arXiv 2010.04159, equation 3), the heart of deformable DETRs.

Shapes: N images, K keys (the pixels of all levels, one level after the other), M heads of C
channels, Q queries that look at P points in each of L levels.

mmcv tells where each level starts and its ``im2col_step`` as well; neither is needed here. Levels
are taken one by one, in backward too, which keeps an L-th of the sampled values in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplesion.mmcv_kernels.precision import full_precision

Size = tuple[int, int]


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Weighted sum of the values at the points that each query looks at.

    Args:
        value: ``(N, K, M, C)``.
        spatial_shapes: ``(L, 2)``, height and width of each level; their products sum up to K.
        level_start_index: Not read.
        sampling_loc: ``(N, Q, M, L, P, 2)``, x and y of the points, 0 to 1 from edge to edge.
            Values between pixel centers are interpolated; beyond the edges they are 0.
        attn_weight: ``(N, Q, M, L, P)``.
        im2col_step: Not read.

    Returns:
        ``(N, Q, M * C)``.
    """
    levels = _levels(value, sampling_loc, attn_weight, spatial_shapes)
    attended = [_attend(size, *map(full_precision, tensors)) for size, tensors in levels]
    return torch.stack(attended).sum(0).to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients by values, points and weights; the other parameters are those of the forward.

    Args:
        grad_output: ``(N, Q, M * C)``.
        grad_value: Filled, ``(N, K, M, C)``.
        grad_sampling_loc: Filled, ``(N, Q, M, L, P, 2)``.
        grad_attn_weight: Filled, ``(N, Q, M, L, P)``.
    """
    grad = full_precision(grad_output)
    levels = _levels(value, sampling_loc, attn_weight, spatial_shapes)
    targets = _levels(grad_value, grad_sampling_loc, grad_attn_weight, spatial_shapes)
    for (size, tensors), (_, grads) in zip(levels, targets, strict=True):
        leaves = [full_precision(tensor).detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            output = _attend(size, *leaves)
        for target, result in zip(grads, torch.autograd.grad(output, leaves, grad), strict=True):
            target.copy_(result)


def _levels(
    value: Tensor, points: Tensor, weights: Tensor, spatial_shapes: Tensor
) -> Iterator[tuple[Size, tuple[Tensor, Tensor, Tensor]]]:
    """Height and width of each level, with views of its values, points and weights."""
    sizes = [(height, width) for height, width in spatial_shapes.tolist()]
    values = value.split([height * width for height, width in sizes], dim=1)
    tensors = zip(values, points.unbind(3), weights.unbind(3), strict=True)
    return zip(sizes, tensors, strict=True)


def _attend(size: Size, value: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """What one level adds to the output ``(N, Q, M * C)``.

    Args:
        size: H and W.
        value: ``(N, H * W, M, C)``.
        points: ``(N, Q, M, P, 2)``.
        weights: ``(N, Q, M, P)``.
    """
    batch, _, heads, channels = value.shape
    maps = value.permute(0, 2, 3, 1).reshape(batch * heads, channels, *size)
    # grid_sample counts from -1 to 1.
    grid = (2 * points - 1).transpose(1, 2).flatten(0, 1)
    sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    attended = (sampled * weights.transpose(1, 2).flatten(0, 1).unsqueeze(1)).sum(-1)
    return attended.view(batch, heads * channels, points.shape[1]).transpose(1, 2)
