"""Lesions of a scan as one finds them without an engine for scans: key slice by key slice."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.dataset import pseudo_collate
from numpy.typing import NDArray
from torch import nn

from deeplesion.datasets.ct import interpolation_weights, resample_positions, thickness_after
from deeplesion.lesions.lesion import SliceDetections, SliceMask
from deeplesion.scans.scan import Scan

META_KEYS = ("img_shape", "ori_shape", "scale_factor", "thickness")


def find_by_key_slice(
    model: nn.Module,
    steps: list[dict[str, Any]],
    scan: Scan,
    key_slices: list[int],
    threshold: float,
) -> list[SliceDetections]:
    """Build the stack of each key slice, call ``test_step``, and keep what scores enough.

    Args:
        model: A detector.
        steps: Its test pipeline.
        scan: The scan.
        key_slices: Which.
        threshold: Least score of boxes that are kept; the detector makes masks of all.
    """
    load, *others = steps
    others = [step for step in others if step["type"] != "PackDetInputs"]
    pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
    prepare = Compose([TRANSFORMS.build(step) for step in [*others, pack]])
    target = load.get("slice_interval", 2.0)
    rules = (target, load.get("interpolate", "thin"), load.get("legacy", False))
    offsets = resample_positions(load["num_slices"], scan.slice_interval, *rules)
    found = []
    for z in key_slices:
        volume = _stack(scan.hu, z, offsets)
        sample = prepare(
            {
                "img": volume,
                "img_shape": volume.shape[:2],
                "ori_shape": volume.shape[:2],
                "scale_factor": (1.0, 1.0),
                "thickness": thickness_after(scan.slice_interval, *rules),
            }
        )
        with torch.no_grad():
            (result,) = model.test_step(pseudo_collate([sample]))  # type: ignore[operator]
        found.append(_detections(z, result.pred_instances, threshold))
    return found


def _stack(hu: NDArray[Any], z: int, offsets: NDArray[np.float64]) -> NDArray[np.float32]:
    """``(H, W, D)`` in HU, beyond the ends of the scan its end slices."""
    planes, last = [], len(hu) - 1
    for step, weight in zip(*interpolation_weights(offsets), strict=True):
        above = hu[np.clip(z + step, 0, last)].astype(np.float32)
        if weight > 0:
            below = hu[np.clip(z + step + 1, 0, last)].astype(np.float32)
            above = cv2.addWeighted(above, 1 - weight, below, weight, 0)
        planes.append(above)
    return np.ascontiguousarray(np.stack(planes, axis=-1))


def _detections(z: int, instances: Any, threshold: float) -> SliceDetections:
    """Boxes as ``test_step`` gives them, masks of whole slices."""
    kept = instances[instances.scores >= threshold]
    masks = tuple(SliceMask(0, 0, mask.cpu().numpy()) for mask in kept.masks)
    boxes, scores = kept.bboxes.double().cpu().numpy(), kept.scores.double().cpu().numpy()
    return SliceDetections(z, boxes, scores, masks)
