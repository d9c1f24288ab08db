"""A detector at work on stacks whose slices are prepared, and put through its stem, only once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from numpy.typing import NDArray
from torch import Tensor, nn

from deeplesion.engine.config import UsageError, has_bfloat16
from deeplesion.inference.pipeline import PreparedSlice
from deeplesion.lesions.lesion import SliceDetections, SliceMask
from deeplesion.models.data_preprocessor import CTDataPreprocessor
from deeplesion.models.inputs import CTInputs, StemInputs


class StackNetwork:
    """Runs a detector of mmdetection.

    Where the backbone's stem works on each slice alone, a slice is put through it once; other
    backbones get the slices as they are.

    Args:
        model: The detector, in evaluation mode on its device.
        amp: Whether to compute in mixed precision, as the test loop does.

    Raises:
        UsageError: It is not a detector of stacks of CT slices.
    """

    def __init__(self, model: Any, amp: bool = False) -> None:
        if not isinstance(getattr(model, "data_preprocessor", None), CTDataPreprocessor):
            raise UsageError(
                "the model must have CTDataPreprocessor as its data_preprocessor: take a config "
                "of this project"
            )
        self.model = model
        self.amp = amp
        self.shares_stem = bool(getattr(model.backbone, "slicewise_stem", False))

    @property
    def device(self) -> torch.device:
        """Where the detector is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @torch.inference_mode()
    def slice_features(
        self, slices: Sequence[PreparedSlice], thickness: float
    ) -> tuple[list[Tensor], dict]:
        """Pad slices and put them through the stem, if there is one to share.

        Args:
            slices: Slices of one scan.
            thickness: In mm, as the pipeline tells it.

        Returns:
            Of each slice ``(H / 4, W / 4, C)``, or ``(H, W, 1)`` itself padded; and the meta
            information of their samples, which are all alike.
        """
        samples = [DetDataSample(metainfo={**s.meta, "thickness": thickness}) for s in slices]
        images = [torch.from_numpy(prepared.image)[None] for prepared in slices]
        batch = self.model.data_preprocessor({"inputs": images, "data_samples": samples})
        volume: Tensor = batch["inputs"].volume
        if self.shares_stem:
            with self._precision():
                volume = self.model.backbone.forward_stem(volume)
        meta = {**samples[0].metainfo, "thickness": float(batch["inputs"].thickness[0])}
        # Copies, for a view would keep those of the whole batch.
        return [one[:, 0].permute(1, 2, 0).clone() for one in volume], meta

    @torch.inference_mode()
    def predict(self, stacks: Sequence[Sequence[Tensor]], meta: dict) -> list[InstanceData]:
        """Detections of key slices.

        Args:
            stacks: Of each key slice the features of its D slices.
            meta: Of :meth:`slice_features`.

        Returns:
            Of each key slice what the detector's ``test_step`` gives: boxes in px of the scan's
            slices, scores, and masks where it has a mask head.
        """
        # Channels last, which both a stem's maps and the network want.
        every = torch.stack([features for stack in stacks for features in stack])
        volume = every.unflatten(0, (len(stacks), -1)).permute(0, 4, 1, 2, 3)
        thickness = torch.full((len(stacks),), meta["thickness"], device=volume.device)
        inputs = (StemInputs if self.shares_stem else CTInputs)(volume, thickness)
        samples = [DetDataSample(metainfo=meta) for _ in stacks]
        with self._precision():
            samples = self.model.predict(inputs, samples)
        return [sample.pred_instances for sample in samples]

    def _precision(self) -> AbstractContextManager:
        device = self.device
        # Another GPU, or none that is used, may be the machine's current one.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            dtype = torch.bfloat16 if device.type == "cpu" or has_bfloat16() else torch.float16
        return torch.autocast(device.type, dtype, enabled=self.amp)


def raise_score_threshold(model: nn.Module, threshold: float) -> None:
    """Let a detector give no boxes that nobody will look at, so that it makes no masks of them.

    Non-maximum suppression goes from the highest score down, so the boxes above the threshold are
    the same as without it.

    Args:
        model: A detector; the settings of its heads are changed. Detectors without such a setting
            (DETR's kind) stay as they are.
        threshold: Least score.
    """
    for name in ("roi_head", "bbox_head"):
        settings = getattr(getattr(model, name, None), "test_cfg", None)
        if settings is not None and "score_thr" in settings:
            settings["score_thr"] = max(settings["score_thr"], threshold)


def to_detections(
    key_slice: int,
    found: InstanceData,
    shift: NDArray[np.float64],
    threshold: float,
    size: tuple[int, int],
) -> SliceDetections:
    """What was found in a key slice, off the device.

    Args:
        key_slice: Index of the slice.
        found: Of :meth:`StackNetwork.predict`.
        shift: ``(4,)`` to add to boxes, in px.
        threshold: Boxes of lower scores are left out.
        size: H and W of the scan's slices in px.
    """
    kept = found[found.scores >= threshold]
    boxes = clip_boxes(kept.bboxes.double().cpu().numpy().reshape(-1, 4) + shift, size)
    masks: tuple[SliceMask, ...] = ()
    if "masks" in kept:
        pixels = torch.as_tensor(kept.masks).cpu().numpy()
        masks = tuple(crop_mask(m, b) for m, b in zip(pixels, boxes, strict=True))
    return SliceDetections(key_slice, boxes, kept.scores.double().cpu().numpy(), masks)


def clip_boxes(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Boxes that end at the centers of the last pixels, where mmdetection lets them reach W and H.

    Args:
        boxes: ``(n, 4)`` of x1, y1, x2, y2 in px.
        size: H and W in px.
    """
    return boxes.clip(0, [size[1] - 1, size[0] - 1] * 2)


def crop_mask(mask: NDArray[np.bool_], box: NDArray[np.float64]) -> SliceMask:
    """The part of a mask that is not empty.

    Args:
        mask: ``(H, W)`` of a whole slice.
        box: ``(4,)`` of the lesion; its center is where an empty mask is.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        x, y = (int(np.clip(box[i] + box[i + 2], 0, 2 * mask.shape[1 - i] - 2) / 2) for i in (0, 1))
        return SliceMask(x, y, np.zeros((1, 1), bool))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return SliceMask(int(left), int(top), mask[top:bottom, left:right].copy())
