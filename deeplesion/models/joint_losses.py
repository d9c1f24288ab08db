"""Heads whose losses are means over the batch of all processes.

mmdetection's heads divide a sum over samples by the number of samples *of the process*, and the
processes average the gradients: a lesion counts the more, the fewer there are beside it on its
process. Here each sum is divided by the mean number of samples of the processes, so that the
average over them is what one process would compute from the whole batch. On one process nothing
changes.

FCOS, ATSS and DINO of mmdetection count over processes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import RetinaHead, RPNHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, get_world_size
from mmengine.structures import InstanceData
from torch import Tensor

# What mmdetection adds to the number that it divides by, whatever the precision.
EPS = torch.finfo(torch.float32).eps
# Where it stands among the targets of an anchor head.
AVG_FACTOR = 4


def sum_over_processes(counts: Sequence[float]) -> list[float]:
    """Sums of some numbers over all processes, each of which must call this.

    Args:
        counts: Of this process, the same number of them on all.
    """
    total = torch.tensor(list(counts), dtype=torch.float64)
    all_reduce(total)
    return total.tolist()


def joint_divisor(count: float) -> float:
    """What each process is to divide its sum by: the mean count of the processes.

    Args:
        count: Number of samples of this process.

    Returns:
        Such that the average over the processes is as if one had divided by the sum of the counts,
        with mmdetection's ``EPS`` added.
    """
    processes = get_world_size()
    if processes == 1:
        return count
    (total,) = sum_over_processes([count])
    return (total + EPS) / processes - EPS


def joint_factors(counts: Sequence[float], eps: float = 0.0) -> list[float]:
    """What means over samples of a process are to be multiplied by; see :func:`joint_divisor`.

    Args:
        counts: Numbers of samples of this process; a mean over none must be 0.
        eps: What was added to the number that a sum was divided by.

    Returns:
        One factor for each number.
    """
    processes = get_world_size()
    if processes == 1:
        return [1.0] * len(counts)
    return [
        (max(count, 1) + eps) * processes / (max(total, 1) + eps)
        for count, total in zip(counts, sum_over_processes(counts), strict=True)
    ]


class JointTargets:
    """Mixin of anchor heads: their targets come with the divisor of all processes."""

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple:
        """Targets of the anchors of a batch, see :class:`mmdet.models.AnchorHead`."""
        targets = list(super().get_targets(*args, **kwargs))  # type: ignore[misc]
        targets[AVG_FACTOR] = joint_divisor(targets[AVG_FACTOR])
        return tuple(targets)


@MODELS.register_module()
class JointRPNHead(JointTargets, RPNHead):
    """RPN head whose losses are means over the anchors sampled on all processes.

    The settings are those of :class:`mmdet.models.RPNHead`.
    """


@MODELS.register_module()
class JointRetinaHead(JointTargets, RetinaHead):
    """RetinaNet head whose losses are means over the positive anchors of all processes.

    The settings are those of :class:`mmdet.models.RetinaHead`.
    """


class JointBoxLoss:
    """Mixin of box heads: means over the RoIs of all processes."""

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> dict:
        """Losses of a batch, see :class:`mmdet.models.BBoxHead`.

        Args:
            cls_score: ``(n, num_classes + 1)``.
            bbox_pred: ``(n, 4)`` or ``(n, 4 num_classes)``.
            rois: ``(n, 5)``.
            labels: ``(n,)``.
            label_weights: ``(n,)``; RoIs of weight 0 do not count.
            bbox_targets: ``(n, 4)``.
            *args: Weights of the boxes, and how to reduce the losses.
            **kwargs: The same by name.
        """
        losses = super().loss(  # type: ignore[misc]
            cls_score, bbox_pred, rois, labels, label_weights, bbox_targets, *args, **kwargs
        )
        # Without a RoI there is none, and the layers before it would be left without a gradient.
        losses.setdefault("loss_cls", cls_score.sum())
        weighted, boxes = int((label_weights > 0).sum()), len(bbox_targets)
        factors = joint_factors([weighted, boxes], EPS)
        for name, factor in zip(("loss_cls", "loss_bbox"), factors, strict=True):
            losses[name] = losses[name] * factor
        return losses


@MODELS.register_module()
class JointShared2FCBBoxHead(JointBoxLoss, Shared2FCBBoxHead):
    """Box head whose losses are means over the RoIs of all processes.

    The settings are those of :class:`mmdet.models.Shared2FCBBoxHead`.
    """


class JointMaskLoss:
    """Mixin of mask heads: a mean over the positive RoIs of all processes."""

    def loss_and_target(
        self,
        mask_preds: Tensor,
        sampling_results: list[SamplingResult],
        batch_gt_instances: list[InstanceData],
        rcnn_train_cfg: ConfigDict,
    ) -> dict:
        """Loss of a batch, see :class:`mmdet.models.FCNMaskHead`.

        Args:
            mask_preds: Logits ``(n, num_classes, h, w)`` of the positive RoIs.
            sampling_results: RoIs of each image.
            batch_gt_instances: Lesions of each image.
            rcnn_train_cfg: Training settings of the RoI head.
        """
        result = super().loss_and_target(  # type: ignore[misc]
            mask_preds, sampling_results, batch_gt_instances, rcnn_train_cfg
        )
        (factor,) = joint_factors([len(mask_preds)])
        losses = {name: loss * factor for name, loss in result["loss_mask"].items()}
        return {**result, "loss_mask": losses}


@MODELS.register_module()
class JointFCNMaskHead(JointMaskLoss, FCNMaskHead):
    """Mask head whose loss is a mean over the positive RoIs of all processes.

    The settings are those of :class:`mmdet.models.FCNMaskHead`.
    """
