"""Boxes from deltas as in mmdetection 1.x."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmdet.models.task_modules.coders import LegacyDeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, get_box_tensor
from torch import Tensor

# A box grows or shrinks by this factor at most (R-CNN's limit for images of up to 1000 px).
WH_RATIO_CLIP = 16 / 1000


def delta_to_bbox(
    boxes: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape: Sequence[int] | None = None,
    wh_ratio_clip: float = WH_RATIO_CLIP,
) -> Tensor:
    """Move and scale boxes (arXiv 1311.2524) whose widths are ``x2 - x1 + 1``.

    The center of the pixels x1 to x2 is (x1 + x2) / 2, so the first and the last pixel are half a
    width less half a pixel away from it.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px.
        deltas: ``(n, 4 K)`` dx, dy, dw, dh of K classes; taken in the precision of the boxes.
        means: Added to the scaled deltas.
        stds: Factors of the deltas.
        max_shape: Height and width; corners are clipped to the pixels 0 to width - 1.
        wh_ratio_clip: The smallest factor of a width; its inverse is the largest.

    Returns:
        ``(n, 4 K)`` boxes in px.
    """
    deltas = deltas.to(boxes).unflatten(1, (-1, 4))
    scaled = deltas * boxes.new_tensor(stds) + boxes.new_tensor(means)
    shift, growth = scaled.split(2, dim=-1)
    limit = abs(math.log(wh_ratio_clip))
    first, last = boxes[:, None, :2], boxes[:, None, 2:]
    size = last - first + 1
    # addcmul may round once where a product and a sum round twice, and is what they called.
    center = torch.addcmul((first + last) * 0.5, size, shift)
    half = size * growth.clamp(-limit, limit).exp() * 0.5
    corners = torch.cat([center - half + 0.5, center + half - 0.5], dim=-1)
    if max_shape is not None:
        height, width = max_shape[:2]
        end = corners.new_tensor([width, height, width, height]) - 1
        corners = torch.minimum(corners.clamp(min=0), end)
    return corners.flatten(1)


@TASK_UTILS.register_module()
class V1DeltaXYWHBBoxCoder(LegacyDeltaXYWHBBoxCoder):
    """mmdetection's legacy coder with the decoding that mmdetection 1.x had.

    ``LegacyDeltaXYWHBBoxCoder`` encodes as mmdetection 1.x did, but leaves out the half-pixel terms
    where it decodes.

    Args:
        target_means: Means of the deltas, subtracted when encoding.
        target_stds: Standard deviations of the deltas, divided by when encoding.
        **kwargs: See :class:`mmdet.models.task_modules.coders.BaseBBoxCoder`.
    """

    def decode(
        self,
        bboxes: Tensor | BaseBoxes,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = WH_RATIO_CLIP,
    ) -> Tensor | BaseBoxes:
        """Boxes from deltas, see :func:`delta_to_bbox`.

        Args:
            bboxes: Anchors or proposals ``(n, 4)`` in px.
            pred_bboxes: Deltas ``(n, 4 K)``.
            max_shape: Height and width of the image.
            wh_ratio_clip: The smallest factor of a width.

        Returns:
            ``(n, 4 K)`` in px, as a box type where the coder was asked for one.
        """
        decoded = delta_to_bbox(
            get_box_tensor(bboxes), pred_bboxes, self.means, self.stds, max_shape, wh_ratio_clip
        )
        return HorizontalBoxes(decoded) if self.use_box_type else decoded
