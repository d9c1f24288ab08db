"""Resizing stacks of slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.registry import TRANSFORMS

from deeplesion.mmdet_parts import Resize
from deeplesion.transforms.planes import as_planes, as_stack


@TRANSFORMS.register_module()
class ResizeCT(Resize):
    """mmdetection's ``Resize``, slice by slice, which leaves alone what has the size already.

    The outcome is that of the stock transform, which copies a stack of the wanted size, too, and
    gives one whose slices do not lie whole in memory, so that packing copies it again.

    Arguments, and keys that are required, added or modified, are those of ``Resize``.
    """

    def _resize_img(self, results: dict) -> None:
        stack = results["img"]
        resized: dict[str, Any] = {**results, "img": as_planes(stack)[0]}
        super()._resize_img(resized)
        planes = [resized["img"]]
        results.update({key: value for key, value in resized.items() if key != "img"})
        if planes[0].shape == stack.shape[:2]:
            return
        for plane in as_planes(stack)[1:]:
            resized["img"] = plane
            super()._resize_img(resized)
            planes.append(resized["img"])
        results["img"] = planes[0] if stack.ndim == 2 else as_stack(np.stack(planes))

    def _resize_masks(self, results: dict) -> None:
        masks = results.get("gt_masks")
        if masks is None or (masks.height, masks.width) != tuple(results["img_shape"]):
            super()._resize_masks(results)
