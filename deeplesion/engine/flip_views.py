"""Test-time augmentation: a key slice is seen flipped, too, and what is found is fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from mmdet.registry import LOOPS
from mmengine.config import Config
from mmengine.runner import TestLoop
from mmengine.structures import InstanceData
from torch import Tensor, nn

from deeplesion.engine.config import UsageError
from deeplesion.evaluation.box_fusion import IOU_THRESHOLD, vote_masks, weighted_box_fusion
from deeplesion.evaluation.prediction_fusion import members_of

#: Axes of a ``(D, H, W)`` stack that a view reverses.
VIEWS: dict[str, tuple[int, ...]] = {
    "horizontal": (2,), "vertical": (1,), "diagonal": (1, 2), "slices": (0,)
}  # fmt: skip
#: What networks of this project are trained to see, too.
DEFAULT_VIEWS = ("horizontal",)


@LOOPS.register_module()
class FlipTestLoop(TestLoop):
    """Test loop that shows every batch as it is and flipped, and fuses what is found.

    Boxes and masks are flipped back; boxes are fused by weighted box fusion
    (:mod:`deeplesion.evaluation.box_fusion`), masks by a vote. mmdetection's ``DetTTAModel`` merges
    by non-maximum suppression, and refuses masks.

    Args:
        *args: See :class:`mmengine.runner.TestLoop`.
        views: Names of :data:`VIEWS`, seen beside the batch itself.
        iou_threshold: Of the fusion.
        dtype: ``bfloat16`` or ``float16`` to compute in mixed precision.
        **kwargs: See :class:`mmengine.runner.TestLoop`.

    Raises:
        UsageError: A view is not known.
    """

    def __init__(
        self,
        *args: Any,
        views: Sequence[str] = DEFAULT_VIEWS,
        iou_threshold: float = IOU_THRESHOLD,
        dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_views(views)
        self.views = tuple(views)
        self.iou_threshold = iou_threshold
        self.dtype: torch.dtype | None = getattr(torch, dtype) if dtype else None

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Predict and evaluate one batch.

        Args:
            idx: Number of the batch.
            data_batch: Batch of the dataloader.
        """
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        model = self.runner.model
        with self._precision(model):
            outputs = predict_views(model, data_batch, self.views, self.iou_threshold)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            "after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )

    def _precision(self, model: nn.Module) -> AbstractContextManager:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(next(model.parameters()).device.type, self.dtype)


def use_views(cfg: Config, views: Sequence[str]) -> None:
    """Test with flipped views; mixed precision that was chosen before stays.

    Args:
        cfg: ``test_cfg`` is changed in place.
        views: Names of :data:`VIEWS`.

    Raises:
        UsageError: A view is not known.
    """
    check_views(views)
    cfg.test_cfg.type = "FlipTestLoop"
    cfg.test_cfg.views = list(views)


def check_views(views: Sequence[str]) -> None:
    """Refuse views that are not known.

    Args:
        views: Names.

    Raises:
        UsageError: One is not of :data:`VIEWS`, or is there twice.
    """
    if not views or len(set(views)) < len(views) or set(views) - set(VIEWS):
        known = ", ".join(VIEWS)
        raise UsageError(f"test-time views must be some of {known}, each once, got {list(views)}")


def predict_views(
    model: Any, batch: dict, views: Sequence[str], iou_threshold: float = IOU_THRESHOLD
) -> list:
    """What a detector finds in a batch, as it is and flipped.

    Args:
        model: A detector, or one in a wrapper.
        batch: ``inputs``, stacks ``(D, H, W)``, and ``data_samples``, before any padding: what
            is padded afterwards lies on the same side in every view, as in training.
        views: Names of :data:`VIEWS`.
        iou_threshold: Of the fusion.

    Returns:
        Data samples with fused ``pred_instances``, in px of the original image.
    """
    outputs = model.test_step(_copy(batch, ()))
    found = [[sample.pred_instances for sample in outputs]]
    for view in views:
        seen = model.test_step(_copy(batch, VIEWS[view]))
        found.append([flipped_back(s.pred_instances, s.metainfo, VIEWS[view]) for s in seen])
    for sample, instances in zip(outputs, zip(*found, strict=True), strict=True):
        sample.pred_instances = fuse_instances(instances, iou_threshold)
    return list(outputs)


def flipped_back(
    instances: InstanceData, meta: Mapping[str, Any], axes: Sequence[int]
) -> InstanceData:
    """What was found in a flipped image as it lies in the original one.

    Args:
        instances: ``bboxes`` in px of the original image and, perhaps, ``masks``.
        meta: ``img_shape`` (h, w in px) of what the network saw, and its ``scale_factor`` (w, h).
        axes: Of the stack ``(D, H, W)`` that were reversed.

    Returns:
        A copy.
    """
    found = instances.clone()
    scale_x, scale_y = meta.get("scale_factor", (1.0, 1.0))
    height, width = meta["img_shape"][:2]
    boxes: Tensor = found.bboxes.clone()
    # Column x of the W of the network's image went to W - 1 - x, as in RandomCTFlip.
    lasts = {2: (width - 1) / scale_x, 1: (height - 1) / scale_y}
    for axis in lasts.keys() & set(axes):
        ends = [0, 2] if axis == 2 else [1, 3]
        boxes[:, ends] = (lasts[axis] - boxes[:, ends[::-1]]).clamp(min=0)
    found.bboxes = boxes
    planes = [axis for axis in axes if axis != 0]
    if planes and "masks" in found:
        found.masks = torch.as_tensor(found.masks).flip(planes)
    return found


def fuse_instances(
    views: Sequence[InstanceData], iou_threshold: float = IOU_THRESHOLD
) -> InstanceData:
    """Fuse what is found of one image in several views.

    Args:
        views: ``bboxes``, ``scores``, ``labels`` and, where all have them, ``masks``.
        iou_threshold: Of the fusion.

    Returns:
        The same on the CPU, by falling score. The label is that of the best member: lesions are of
        one class.
    """
    boxes = [_boxes(view) for view in views]
    scores = [view.scores.double().cpu().numpy() for view in views]
    fused = weighted_box_fusion(boxes, scores, iou_threshold=iou_threshold)
    members = members_of(fused.cluster, len(fused.boxes))
    every = np.concatenate(scores)
    best = [int(m[every[m].argmax()]) for m in members]
    labels = torch.cat([view.labels.cpu() for view in views])
    result = InstanceData(
        bboxes=torch.from_numpy(fused.boxes).float(),
        scores=torch.from_numpy(fused.scores).float(),
        labels=labels[torch.tensor(best, dtype=torch.long)],
    )
    if all("masks" in view for view in views):
        masks = np.concatenate([np.asarray(torch.as_tensor(v.masks).cpu()) for v in views])
        voted = np.zeros((len(members), *masks.shape[1:]), np.bool_)
        for target, group in zip(voted, members, strict=True):
            target[:] = (
                masks[group[0]] if len(group) == 1 else vote_masks(masks[group], every[group])
            )
        result.masks = torch.from_numpy(voted)
    return result


def _boxes(view: InstanceData) -> np.ndarray:
    boxes: np.ndarray = view.bboxes.double().cpu().numpy().reshape(-1, 4)
    # bf16, and decoders of the old convention, turn boxes narrower than a pixel inside out.
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return boxes


def _copy(batch: dict, axes: tuple[int, ...]) -> dict:
    """A batch whose stacks are reversed along axes; samples are copied, for models change them."""
    inputs = [stack.flip(axes) if axes else stack for stack in batch["inputs"]]
    return {**batch, "inputs": inputs, "data_samples": [s.clone() for s in batch["data_samples"]]}
