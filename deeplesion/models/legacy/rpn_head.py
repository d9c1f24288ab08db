"""Selection of proposals as in mmdetection 1.x."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import scale_boxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from deeplesion.models.joint_losses import JointRPNHead
from deeplesion.models.legacy.nms import iou_threshold_of, nms_in_order


@MODELS.register_module()
class V1RPNHead(JointRPNHead):
    """RPN head that chooses its proposals as mmdetection 1.x did.

    Levels are suppressed apart, with the +1 pixel. Of each level the *first* ``nms_post`` kept
    boxes go on, in the order of the anchors where there are no more than ``nms_pre`` of them;
    ``min_bbox_size`` 0 filters nothing, and a size is ``x2 - x1 + 1``.

    The settings are those of :class:`~..joint_losses.JointRPNHead`; its test settings may have
    ``nms_post``, by default ``max_per_img``.
    """

    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigDict,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Proposals in descending score; see the class."""
        limit = cfg.get("nms_post", cfg.max_per_img)
        boxes, scores = results.bboxes, results.scores
        chosen = torch.cat(
            [
                self._choose(boxes, scores, of_level.nonzero().flatten(), cfg)[:limit]
                for of_level in (results.level_ids == level for level in results.level_ids.unique())
            ]
            or [results.level_ids]
        )
        best = scores[chosen].sort(descending=True, stable=True).indices[: cfg.max_per_img]
        proposals = results[chosen[best]]
        del proposals.level_ids
        proposals.labels = torch.zeros_like(proposals.scores, dtype=torch.long)
        if rescale:
            assert img_meta is not None
            factor = [1 / scale for scale in img_meta["scale_factor"]]
            proposals.bboxes = scale_boxes(proposals.bboxes, factor)
        return proposals

    @staticmethod
    def _choose(boxes: Tensor, scores: Tensor, rows: Tensor, cfg: ConfigDict) -> Tensor:
        """Those of some rows that are large enough and not suppressed, ascending."""
        if (smallest := cfg.get("min_bbox_size", 0)) > 0:
            size = boxes[rows, 2:] - boxes[rows, :2] + 1
            rows = rows[(size >= smallest).all(1)]
        return rows[nms_in_order(boxes[rows], scores[rows], iou_threshold_of(cfg.nms))]
