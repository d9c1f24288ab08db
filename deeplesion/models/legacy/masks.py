"""Masks of boxes as in mmdetection 1.x: whole pixels, resized by OpenCV."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Array = np.ndarray


def crop_mask_targets(masks: Array, boxes: Array, size: tuple[int, int]) -> Array:
    """Cut each box out of its mask and resize it.

    Boxes are clipped to the image and truncated to whole pixels, the last of them inside. Float
    masks get soft edges by the resizing, those of bytes are rounded to 0 and 1.

    Args:
        masks: ``(n, H, W)`` mask of each box, float32 or uint8.
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px.
        size: Height and width h, w of the targets.

    Returns:
        ``(n, h, w)`` float32 in 0..1.
    """
    targets = np.zeros((len(boxes), *size), np.float32)
    for target, mask, box in zip(targets, masks, boxes, strict=True):
        height, width = mask.shape
        end = (width - 1, height - 1, width - 1, height - 1)
        x, y, w, h = whole_pixels(np.clip(box, 0, end))
        target[:] = cv2.resize(mask[y : y + h, x : x + w], size[::-1])
    return targets


def paste_masks(
    probabilities: Array, boxes: Array, shape: tuple[int, int], threshold: float
) -> Array:
    """Put the mask of each box into an image.

    Args:
        probabilities: ``(n, h, w)`` float32 in 0..1.
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px of the image; truncated to whole pixels, the last of
            them inside. What lies outside of the image is left out.
        shape: Height and width H, W of the image.
        threshold: Pixels with more than this belong to the mask.

    Returns:
        ``(n, H, W)`` bool.
    """
    pasted = np.zeros((len(boxes), *shape), bool)
    for image, mask, box in zip(pasted, probabilities, boxes, strict=True):
        x, y, w, h = whole_pixels(box)
        left, top = max(-x, 0), max(-y, 0)
        inside = image[y + top : max(y + h, 0), x + left : max(x + w, 0)]
        resized = cv2.resize(mask, (w, h))[top:, left:]
        inside[:] = resized[: inside.shape[0], : inside.shape[1]] > threshold
    return pasted


def whole_pixels(box: Sequence[float] | Array) -> tuple[int, int, int, int]:
    """First column and row, width and height of a box ``(4,)``, truncated; no less than a pixel."""
    x1, y1, x2, y2 = (int(value) for value in box)
    return x1, y1, max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
