"""Moving slices, boxes and masks together."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from deeplesion.datasets.memory import empty_stack
from deeplesion.mmdet_parts import Pad, RandomFlip
from deeplesion.transforms.planes import as_planes, as_stack

#: OpenCV's names of mmdetection's directions.
FLIP_CODES = {"horizontal": 1, "vertical": 0, "diagonal": -1}
#: A box narrower than this after a transform is none, in px.
MIN_BOX_SIDE = 1.0


def affine_matrix(
    size: tuple[int, int], shift: tuple[float, float], scale: float, angle: float
) -> NDArray[np.float64]:
    """Rotation and scale about the image's center, then a shift.

    Args:
        size: ``(height, width)`` in px.
        shift: x, y as a fraction of width and height.
        scale: Factor; 1 changes nothing.
        angle: Degrees, counter-clockwise as seen.

    Returns:
        ``(2, 3)`` matrix that takes pixel coordinates ``(x, y, 1)`` to new ones. Pixel ``i`` has
        its center at ``i``, so the center of the image is at ``((W - 1) / 2, (H - 1) / 2)``.
    """
    height, width = size
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    matrix[:, 2] += shift[0] * width, shift[1] * height
    return matrix


def warp_slices(
    volume: NDArray[np.float32], matrix: NDArray[np.float64], fill_value: float
) -> NDArray[np.float32]:
    """Warp all slices by one matrix, bilinearly.

    Args:
        volume: ``(H, W, D)`` or ``(H, W)``.
        matrix: ``(2, 3)``, as of :func:`affine_matrix`.
        fill_value: What stands where nothing was.

    Returns:
        A new array of the same shape, its slices whole in memory one after another.
    """
    height, width = volume.shape[:2]
    planes = as_planes(volume)
    # As channels, which share the arithmetic of where a pixel comes from. OpenCV has a border of
    # four values, and begins again with the first for the fifth channel.
    pixels = empty_stack((height, width, len(planes)), planes.dtype)
    moved = empty_stack(pixels.shape, pixels.dtype)
    cv2.merge(list(planes), dst=pixels)
    cv2.warpAffine(
        pixels, matrix, (width, height), dst=moved, flags=cv2.INTER_LINEAR,
        borderValue=(fill_value,) * 4,
    )  # fmt: skip
    del pixels  # whose memory the next one takes
    out = empty_stack(planes.shape, planes.dtype)
    cv2.split(moved, list(out))
    return out[0] if volume.ndim == 2 else as_stack(out)


def warp_masks(masks: NDArray[np.uint8], matrix: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Warp ``(N, H, W)`` masks of 0 and 1 by nearest neighbor."""
    height, width = masks.shape[1:]
    warped = [
        cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST) for mask in masks
    ]
    return np.stack(warped) if warped else masks.copy()


def warp_boxes(boxes: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The axis-aligned hulls of transformed boxes.

    The corners are transformed, as the papers' augmentation (albumentations) does. The hull of
    the transformed mask would be tighter, but it would lose the 5 px that DeepLesion's boxes, by
    which the detector is judged, stand off the lesion.

    Args:
        boxes: ``(N, 4)`` x1, y1, x2, y2 in px.
        matrix: ``(2, 3)``, as of :func:`affine_matrix`.

    Returns:
        ``(N, 4)``, not clipped.
    """
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1).astype(np.float32)


def clip_boxes(
    boxes: NDArray[np.float32], size: tuple[int, int], min_visible: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clip boxes to the image and say which of them remain.

    Args:
        boxes: ``(N, 4)`` x1, y1, x2, y2 in px, the centers of the first and last pixel.
        size: ``(height, width)`` in px.
        min_visible: Fraction of a box's area that must lie in the image.

    Returns:
        ``(N, 4)`` clipped boxes, all of them, and ``(N,)`` which are to be kept.
    """
    height, width = size
    limits = np.array([width, height, width, height], np.float32) - 1
    clipped = np.clip(boxes, 0, limits)
    sides, whole = clipped[:, 2:] - clipped[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = sides.prod(axis=1) >= min_visible * whole.prod(axis=1)
    return clipped, visible & (sides >= MIN_BOX_SIDE).all(axis=1)


@TRANSFORMS.register_module()
class RandomCTAffine(BaseTransform):
    """Shift, scale and rotate a stack of slices with its boxes and masks.

    The papers' augmentation (AlignShift, arXiv 2005.01969). All slices move alike, at any depth.
    Boxes become the hull of their transformed corners, are clipped to the image, and are dropped
    with their labels and masks where too little of them is left.

    Required key: ``img`` ``(H, W, D)``; optional: ``gt_bboxes``, ``gt_bboxes_labels``,
    ``gt_ignore_flags``, ``gt_masks`` (``BitmapMasks``). All are modified.

    Args:
        shift_limit: Shift is drawn from +- this fraction of width and, apart, height.
        scale_limit: Scale is drawn from 1 +- this.
        rotate_limit: Angle is drawn from +- this, in degrees.
        prob: Probability that anything is done.
        fill_value: What stands where nothing was; the default is air after :class:`WindowCT`.
        min_visible: Fraction of a box's area that must remain in the image.

    Raises:
        ValueError: If a limit, ``prob`` or ``min_visible`` is out of its range.
    """

    def __init__(
        self,
        shift_limit: float = 0.04,
        scale_limit: float = 0.2,
        rotate_limit: float = 15.0,
        prob: float = 0.8,
        fill_value: float = -50.0,
        min_visible: float = 0.1,
    ) -> None:
        limits = {"shift_limit": shift_limit, "scale_limit": scale_limit, "prob": prob}
        for name, value in {**limits, "min_visible": min_visible}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if not 0 <= rotate_limit <= 180:
            raise ValueError(f"rotate_limit must be in [0, 180] degrees, got {rotate_limit}")
        if scale_limit == 1:
            raise ValueError("scale_limit must be < 1, or the image may shrink to nothing, got 1")
        self.shift_limit, self.scale_limit = shift_limit, scale_limit
        self.rotate_limit = rotate_limit
        self.prob, self.fill_value, self.min_visible = prob, fill_value, min_visible

    @cache_randomness
    def _draw(self) -> tuple[tuple[float, float], float, float] | None:
        """Shift, scale and angle, or None where nothing is to be done."""
        if np.random.rand() >= self.prob:
            return None
        shift_x, shift_y, scale, angle = np.random.uniform(-1, 1, 4)
        shift = (shift_x * self.shift_limit, shift_y * self.shift_limit)
        return shift, 1 + scale * self.scale_limit, angle * self.rotate_limit

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Move image, boxes and masks.

        Raises:
            TypeError: If masks are polygons.
        """
        drawn = self._draw()
        if drawn is None:
            return results
        size = results["img"].shape[:2]
        matrix = affine_matrix(size, *drawn)
        results["img"] = warp_slices(results["img"], matrix, self.fill_value)
        if results.get("gt_masks") is not None:
            masks = results["gt_masks"]
            if not isinstance(masks, BitmapMasks):
                raise TypeError(
                    f"gt_masks must be BitmapMasks, got {type(masks).__name__}: "
                    "set poly2mask=True in the loading of annotations"
                )
            results["gt_masks"] = BitmapMasks(warp_masks(masks.masks, matrix), *size)
        if results.get("gt_bboxes") is not None:
            self._move_boxes(results, matrix, size)
        return results

    def _move_boxes(
        self, results: dict, matrix: NDArray[np.float64], size: tuple[int, int]
    ) -> None:
        boxes = results["gt_bboxes"]
        moved = warp_boxes(boxes.numpy(), matrix)
        clipped, kept = clip_boxes(moved, size, self.min_visible)
        results["gt_bboxes"] = type(boxes)(clipped[kept])
        for key in ("gt_bboxes_labels", "gt_ignore_flags"):
            if key in results:
                results[key] = results[key][kept]
        if results.get("gt_masks") is not None:
            results["gt_masks"] = results["gt_masks"][np.flatnonzero(kept)]

    def __repr__(self) -> str:
        names = ("shift_limit", "scale_limit", "rotate_limit", "prob", "fill_value", "min_visible")
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in names)})"


@TRANSFORMS.register_module()
class RandomCTFlip(RandomFlip):
    """mmdetection's ``RandomFlip`` for boxes that end with their last pixel.

    Our boxes hold the centers of their first and last pixel, so that column ``x`` goes to
    ``W - 1 - x`` and row ``y`` to ``H - 1 - y``. The stock transform takes them to ``W - x`` and
    ``H - y``, a pixel off the slices and masks, which are flipped as there.

    Arguments, and keys that are required, added or modified, are those of ``RandomFlip``.
    """

    @autocast_box_type()
    def _flip(self, results: dict) -> None:
        planes = as_planes(results["img"])
        super()._flip(results)
        # The same by OpenCV: numpy's view of a flipped stack is slow to copy when it is packed.
        flipped = empty_stack(planes.shape, planes.dtype)
        for plane, target in zip(planes, flipped, strict=True):
            cv2.flip(plane, FLIP_CODES[results["flip_direction"]], dst=target)
        results["img"] = as_stack(flipped) if results["img"].ndim == 3 else flipped[0]
        if results.get("gt_bboxes") is not None:
            direction = results["flip_direction"]
            left = -1.0 if direction in ("horizontal", "diagonal") else 0.0
            up = -1.0 if direction in ("vertical", "diagonal") else 0.0
            results["gt_bboxes"].translate_((left, up))


@TRANSFORMS.register_module()
class PadCT(Pad):
    """mmdetection's ``Pad`` for any number of slices.

    OpenCV pads with four values at most, and mmcv hands it one per channel, so the stock
    transform refuses more than four slices.

    Args:
        fill_value: What stands beside the image; the default is air after ``WindowCT``.
        **kwargs: ``size`` (width, height), ``size_divisor`` or ``pad_to_square`` of ``Pad``.
    """

    def __init__(self, fill_value: float = -50.0, **kwargs: Any) -> None:
        super().__init__(pad_val={"img": float(fill_value), "masks": 0}, **kwargs)

    def _pad_img(self, results: dict) -> None:
        padded: dict[str, Any] = {}
        planes = []
        for plane in as_planes(results["img"]):
            padded["img"] = plane
            super()._pad_img(padded)
            planes.append(padded["img"])
        results.update(padded)
        results["img"] = as_stack(np.stack(planes))
        results["pad_shape"] = results["img"].shape
