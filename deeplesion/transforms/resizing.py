"""Resizing stacks of slices."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import RandomChoiceResize
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


@TRANSFORMS.register_module()
class RandomStepResize(RandomChoiceResize):
    """mmcv's ``RandomChoiceResize`` that takes one and the same size for all samples of a step.

    So nothing is padded to a larger neighbor, and what a batch is padded to does not depend on the
    number of processes that share it. Samples that are not told their step by ``step_seed`` (see
    :class:`deeplesion.datasets.samplers.base.Draw`) are each of a size of their own, as there.

    Arguments, and other keys that are required, added or modified, are those of
    ``RandomChoiceResize``.
    """

    def transform(self, results: dict) -> dict:
        """Resize to one of the sizes."""
        seed = results.get("step_seed")
        if seed is None:
            return super().transform(results)
        index = int(np.random.default_rng(seed).integers(len(self.scales)))
        self.resize.scale = self.scales[index]
        return {**self.resize(results), "scale_idx": index}
