"""RoIAlign with average pooling (arXiv 1703.06870)."""

from __future__ import annotations

import torch
from torch import Tensor

from deeplesion.mmcv_kernels.precision import full_precision

MAX_MODE = 0


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Sample the features of each RoI.

    Args:
        input: Feature map ``(N, C, H, W)``.
        rois: ``(n, 5)`` image index, x1, y1, x2, y2 in px of the image.
        output: Filled, ``(n, C, aligned_height, aligned_width)``.
        argmax_y: For maximum pooling, left untouched.
        argmax_x: For maximum pooling, left untouched.
        aligned_height: Bins per RoI, downwards.
        aligned_width: Bins per RoI, across.
        spatial_scale: Feature px per image px.
        sampling_ratio: Samples per bin and axis; from 0 down, as many as the RoI has feature px.
        pool_mode: 1 for average; 0, maximum, is refused.
        aligned: Move the samples by half a pixel, as pixel centers ask for.

    Raises:
        NotImplementedError: On maximum pooling.
    """
    _refuse_max_mode(pool_mode)
    features = full_precision(input)
    result = torch.ops.torchvision.roi_align(
        features,
        rois.to(features.dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(result)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient by the feature map; the other parameters are those of the forward.

    Args:
        grad_output: ``(n, C, aligned_height, aligned_width)``.
        grad_input: Filled, ``(N, C, H, W)``.

    Raises:
        NotImplementedError: On maximum pooling.
    """
    _refuse_max_mode(pool_mode)
    grad = full_precision(grad_output)
    result = torch.ops.torchvision._roi_align_backward(
        grad,
        rois.to(grad.dtype),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(result)


def _refuse_max_mode(pool_mode: int) -> None:
    if pool_mode == MAX_MODE:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' is not among torchvision's kernels: use pool_mode='avg' "
            "or an mmcv with its compiled extension"
        )
