"""Non-maximum suppression, hard and soft."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from deeplesion.mmcv_kernels.precision import full_precision

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression: a box goes where its IoU with a kept one is above the threshold.

    Widths are ``x2 - x1 + offset``, in areas as well as intersections. Moving every lower right
    corner by one pixel turns that exactly into the plain convention; in float64 the sum is not
    rounded.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px. Left unchanged.
        scores: ``(n,)``.
        iou_threshold: Largest IoU that two kept boxes may have.
        offset: 0, or 1 for the +1 pixel convention.

    Returns:
        ``(m,)`` indices of the kept boxes in descending score.
    """
    boxes = full_precision(boxes)
    if offset:
        boxes = boxes.double()
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision_nms(boxes, scores.to(boxes.dtype), _kernel_threshold(iou_threshold, boxes))


def _kernel_threshold(iou_threshold: float, boxes: Tensor) -> float:
    """The threshold at which torchvision's comparison keeps an IoU that equals it, as mmcv does.

    mmcv compares in float32. torchvision compares in double on the CPU, where float32(0.3) > 0.3,
    and with a float32 threshold on CUDA, where 0.7 > float32(0.7).
    """
    nearest = np.float32(iou_threshold)
    if boxes.dtype == torch.float32:
        return float(nearest)
    if boxes.is_cuda and float(nearest) < iou_threshold:
        return float(np.nextafter(nearest, np.float32(np.inf)))
    return iou_threshold


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (arXiv 1704.04503): boxes beside a better one lose score before they go.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px.
        scores: ``(n,)``.
        dets: ``(n, 5)``; the first rows are filled with the kept boxes and their new scores.
        iou_threshold: IoU from which on the naive and linear methods take score away.
        sigma: Width of the Gaussian method.
        min_score: A box whose score falls below goes.
        method: 0 naive, 1 linear, 2 gaussian.
        offset: 0, or 1 for the +1 pixel convention.

    Returns:
        ``(m,)`` indices of the kept boxes, in the order of the rows of ``dets``.
    """
    table = full_precision(torch.cat([boxes, scores[:, None].to(boxes.dtype)], dim=1))
    indices = torch.arange(len(table), device=table.device)
    first = 0
    while first < len(table):
        order = torch.arange(len(table), device=table.device)
        best = first + int(table[first:, 4].argmax())
        order[first], order[best] = best, first
        table, indices = table[order], indices[order]
        first += 1
        iou = _iou_to_first(table[first - 1 :, :4], offset)
        table[first:, 4] *= _score_factor(iou, method, iou_threshold, sigma)
        rest = first + _close_ranks(table[first:, 4] < min_score)
        table = torch.cat([table[:first], table[rest]])
        indices = torch.cat([indices[:first], indices[rest]])
    dets[: len(table)] = table.to(dets)
    return indices


def _iou_to_first(boxes: Tensor, offset: int) -> Tensor:
    """IoU ``(n - 1,)`` of the first of ``(n, 4)`` boxes with each of the others; 0 for 0 / 0."""
    corner = torch.minimum(boxes[0, 2:], boxes[1:, 2:]) - torch.maximum(boxes[0, :2], boxes[1:, :2])
    overlap = (corner + offset).clamp(min=0).prod(dim=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + offset).prod(dim=1)
    return (overlap / (areas[0] + areas[1:] - overlap)).nan_to_num(nan=0.0)


def _score_factor(iou: Tensor, method: int, iou_threshold: float, sigma: float) -> Tensor:
    """What the score of a box is multiplied by, from its IoU with the better box."""
    if method == NAIVE:
        return (iou < iou_threshold).to(iou)
    if method == LINEAR:
        return torch.where(iou >= iou_threshold, 1 - iou, 1)
    if method == GAUSSIAN:
        return torch.exp(-(iou**2) / sigma)
    raise ValueError(f"method must be 0 (naive), 1 (linear) or 2 (gaussian), got {method}")


def _close_ranks(dropped: Tensor) -> Tensor:
    """Order of the rows that stay: as in mmcv, the last of them fill the gaps from the front.

    The order decides which of two equal scores is taken first.
    """
    staying = (~dropped).nonzero().flatten()
    count = len(staying)
    order = torch.arange(count, device=dropped.device)
    order[dropped[:count]] = staying[staying >= count].flip(0)
    return order
