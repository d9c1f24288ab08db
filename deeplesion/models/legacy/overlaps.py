"""Overlaps of boxes whose widths are ``x2 - x1 + 1``."""

from __future__ import annotations

import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from torch import Tensor

MODES = ("iou", "iof")


def box_overlaps(
    boxes1: Tensor, boxes2: Tensor, mode: str = "iou", is_aligned: bool = False
) -> Tensor:
    """Intersections over unions, or over the areas of the first boxes.

    Args:
        boxes1: ``(m, 4)`` x1, y1, x2, y2 in px, x2 and y2 the last pixels inside.
        boxes2: ``(n, 4)``.
        mode: ``"iou"`` or ``"iof"`` (intersection over the area of ``boxes1``).
        is_aligned: Compare the boxes pair by pair; m = n then.

    Returns:
        ``(m, n)``, or ``(m,)`` where they are aligned.

    Raises:
        ValueError: There is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    if not is_aligned:
        boxes1 = boxes1[:, None]
    first = torch.maximum(boxes1[..., :2], boxes2[..., :2])
    last = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])
    overlap = (last - first + 1).clamp(min=0).prod(-1)
    area1, area2 = ((boxes[..., 2:] - boxes[..., :2] + 1).prod(-1) for boxes in (boxes1, boxes2))
    return overlap / (area1 + area2 - overlap if mode == "iou" else area1)


@TASK_UTILS.register_module()
class V1BboxOverlaps2D:
    """Overlaps with the +1 pixel convention, for assigners (``iou_calculator``)."""

    def __call__(
        self,
        bboxes1: Tensor | BaseBoxes,
        bboxes2: Tensor | BaseBoxes,
        mode: str = "iou",
        is_aligned: bool = False,
    ) -> Tensor:
        """Overlaps, see :func:`box_overlaps`; a fifth column, the score, is left out."""
        boxes1, boxes2 = (get_box_tensor(boxes)[..., :4] for boxes in (bboxes1, bboxes2))
        return box_overlaps(boxes1, boxes2, mode, is_aligned)

    def __repr__(self) -> str:
        """Its name: it has no settings."""
        return f"{type(self).__name__}()"
