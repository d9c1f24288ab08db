"""Non-maximum suppression as in mmdetection 1.x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.ops import nms
from torch import Tensor

PLUS_ONE = 1


def nms_in_order(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes beside better ones; those kept come in the order in which they were given.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px, widths ``x2 - x1 + 1``.
        scores: ``(n,)``.
        iou_threshold: A box goes where its IoU with a kept one is above this.

    Returns:
        ``(m,)`` indices of the kept boxes, ascending.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    _, kept = nms(boxes, scores, float(iou_threshold), offset=PLUS_ONE)
    return kept.sort().values


def multiclass_nms(
    boxes: Tensor, scores: Tensor, score_thr: float, iou_threshold: float, max_num: int
) -> tuple[Tensor, Tensor]:
    """Suppress the boxes of each class.

    No more than ``max_num`` boxes come as they were given, class by class; of more, the best ones
    come in descending score.

    Args:
        boxes: ``(n, 4 K)`` boxes of each of K classes, or ``(n, 4)`` shared by all.
        scores: ``(n, K + 1)``, background last.
        score_thr: Boxes with a score above this are looked at.
        iou_threshold: See :func:`nms_in_order`.
        max_num: Largest number of boxes; no limit from 0 down.

    Returns:
        ``(m, 5)`` boxes with scores, and ``(m,)`` labels.
    """
    classes = scores.shape[1] - 1
    boxes = boxes.unflatten(1, (-1, 4)).expand(-1, classes, -1)
    found = []
    for label in range(classes):
        chosen = scores[:, label] > score_thr
        of_class = torch.cat([boxes[chosen, label], scores[chosen, label, None]], dim=1)
        kept = nms_in_order(of_class[:, :4], of_class[:, 4], iou_threshold)
        found.append((of_class[kept], torch.full_like(kept, label)))
    dets, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    if 0 < max_num < len(dets):
        best = dets[:, 4].sort(descending=True, stable=True).indices[:max_num]
        dets, labels = dets[best], labels[best]
    return dets, labels


def iou_threshold_of(nms_cfg: Mapping[str, Any]) -> float:
    """The threshold in an ``nms`` setting of a config.

    Args:
        nms_cfg: ``dict(type="nms", iou_threshold=0.7)``.

    Raises:
        ValueError: It asks for another kind of suppression.
    """
    kind = nms_cfg.get("type", "nms")
    if kind != "nms":
        raise ValueError(f"nms must be of type 'nms' with the numerics of version 1, got {kind!r}")
    return float(nms_cfg["iou_threshold"])
