"""Lesion masks from the annotated box and RECIST diameters, by OpenCV's GrabCut.

DeepLesion has no masks. The box says what is surely background, the quadrilateral of the four
RECIST end points what is surely lesion, and GrabCut (C. Rother et al., SIGGRAPH 2004) decides the
rest: the weak supervision that AlignShift (arXiv 2005.01969) and A3D (arXiv 2109.08684) train
their mask heads with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

Mask = NDArray[np.uint8]
Box = Sequence[float]

ITERATIONS = 3
CONTEXT_PX = 32
"""GrabCut looks this far beyond the box (or half the box's longer side, if that is farther)."""

PUBLISHED_WINDOW = (-1024.0, 2050.0)
PUBLISHED_OFFSET = -50.0
"""The published masks were cut in what the published network sees, instead of a gray image."""

_NO_RECT = (0, 0, 1, 1)
"""GrabCut wants a rectangle even where, as here, it starts from labels and does not look at it."""

_ROUNDING = 1e-9
"""So that an end point on a pixel's center counts as inside, however it is rounded."""

_OUTLINE = [0, 2, 1, 3]
"""RECIST points come as long axis, short axis; around the quadrilateral they alternate."""


@dataclass(frozen=True)
class LesionMask:
    """A lesion's mask, ``(H, W)`` of 0 and 1, and what made it."""

    mask: Mask
    source: Literal["grabcut", "ellipse"]


def _shape(image: Mask) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def seeds(shape: tuple[int, int], bbox: Box, recist: ArrayLike) -> Mask:
    """GrabCut's initial labels: background, in the box probable foreground, in RECIST foreground.

    Args:
        shape: height and width in px.
        bbox: ``(x1, y1, x2, y2)`` in 0-based px; truncated to integers, ends included.
        recist: four end points ``(x, y)``, long axis first, in 0-based px; truncated.

    Returns:
        ``(H, W)`` of ``cv2.GC_*``.
    """
    labels = np.full(shape, cv2.GC_BGD, np.uint8)
    x1, y1, x2, y2 = (max(0, int(value)) for value in bbox)
    labels[y1 : y2 + 1, x1 : x2 + 1] = cv2.GC_PR_FGD
    points = np.asarray(recist, np.float64).reshape(4, 2)[_OUTLINE]
    cv2.fillConvexPoly(labels, points.astype(np.int32), cv2.GC_FGD)
    return labels


def wrap_to_uint8(values: ArrayLike) -> Mask:
    """Cast to 8 bit as C does on most machines: truncated towards 0, modulo 256, so -50 is 206.

    Args:
        values: any shape; finite.

    Returns:
        uint8 of the same shape.
    """
    # By way of integers: what a negative floating point number becomes depends on the machine.
    return np.trunc(np.asarray(values, np.float64)).astype(np.int64).astype(np.uint8)


def published_gray(hu: ArrayLike) -> Mask:
    """The image that the published masks were cut in: ``legacy=True`` wants it.

    The window -1024 to 2050 HU becomes -50 to 205, and negative numbers wrap around. So air and
    lung, the darkest, come out brightest.

    Args:
        hu: ``(H, W)`` in HU.

    Returns:
        ``(H, W)`` uint8.
    """
    low, high = PUBLISHED_WINDOW
    share = (np.asarray(hu, np.float64) - low) / (high - low)
    return wrap_to_uint8(np.clip(share, 0, 1) * 255 + PUBLISHED_OFFSET)


def grabcut_mask(
    image_u8: Mask,
    bbox: Box,
    recist: ArrayLike,
    iterations: int = ITERATIONS,
    seed: int | None = 0,
) -> Mask:
    """Cut a lesion out of a gray image by GrabCut.

    Given the whole of :func:`published_gray` this is what the published code computes, pixel for
    pixel.

    Args:
        image_u8: ``(H, W)`` uint8.
        bbox: see :func:`seeds`.
        recist: see :func:`seeds`.
        iterations: rounds of GrabCut.
        seed: for OpenCV's random numbers, by which GrabCut starts its clusters; None goes on with
            those of the call before.

    Returns:
        ``(H, W)`` uint8 of 0 and 1; all 0 where a box over the whole image leaves no
        background to learn.

    Raises:
        ValueError: if the image is no 2D uint8 array.
    """
    if image_u8.ndim != 2 or image_u8.dtype != np.uint8:
        raise ValueError(f"image_u8 must be (H, W) uint8, got {image_u8.shape} {image_u8.dtype}")
    labels = seeds(_shape(image_u8), bbox, recist)
    if not (labels == cv2.GC_BGD).any():
        return np.zeros_like(labels)
    # GrabCut takes three channels only.
    color = np.repeat(image_u8[:, :, None], 3, axis=2)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    if seed is not None:
        cv2.setRNGSeed(seed)
    cv2.grabCut(color, labels, _NO_RECT, background, foreground, iterations, cv2.GC_INIT_WITH_MASK)
    return ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)


def recist_ellipse(shape: tuple[int, int], recist: ArrayLike) -> Mask:
    """The ellipse whose axes are as long as the RECIST diameters, along the long one.

    Args:
        shape: height and width in px.
        recist: four end points ``(x, y)``, long axis first, in 0-based px.

    Returns:
        ``(H, W)`` uint8 of 0 and 1, at least the pixel of the center.
    """
    points = np.asarray(recist, np.float64).reshape(4, 2)
    x, y = points.mean(axis=0)
    along, across = points[1] - points[0], points[3] - points[2]
    a, b = max(np.hypot(*along) / 2, 0.5), max(np.hypot(*across) / 2, 0.5)
    angle = np.arctan2(along[1], along[0])
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    u = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    v = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    mask = ((u / a) ** 2 + (v / b) ** 2 <= 1.0 + _ROUNDING).astype(np.uint8)
    row, column = np.clip(np.rint([y, x]).astype(int), 0, np.array(shape) - 1)
    mask[row, column] = 1
    return mask


def surroundings(shape: tuple[int, int], bbox: Box) -> tuple[slice, slice]:
    """Rows and columns around a box that GrabCut needs to see.

    GrabCut models the background from all it is shown. Around the lesion that is the tissue it
    lies in; in the whole slice it is mostly air, bed and lung, and takes many times as long.
    """
    x1, y1, x2, y2 = bbox
    margin = max(CONTEXT_PX, 0.5 * max(x2 - x1, y2 - y1))
    top, left = (max(0, int(value - margin)) for value in (y1, x1))
    bottom, right = (int(np.ceil(value + margin)) + 1 for value in (y2, x2))
    return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))


def lesion_mask(
    image_u8: Mask,
    bbox: Box,
    recist: ArrayLike,
    iterations: int = ITERATIONS,
    seed: int | None = 0,
    legacy: bool = False,
) -> LesionMask:
    """GrabCut on a lesion's surroundings, or the RECIST ellipse where that gives nothing.

    Nothing means: not one pixel beyond the quadrilateral that was given to it.

    Args:
        image_u8: ``(H, W)`` uint8.
        bbox: see :func:`seeds`.
        recist: see :func:`seeds`.
        iterations: rounds of GrabCut.
        seed: see :func:`grabcut_mask`.
        legacy: GrabCut on the whole image as the published code did, its masks where
            ``image_u8`` is :func:`published_gray`: end points truncated, and no ellipse but where
            that code failed, for want of background.
    """
    if legacy:
        cut = grabcut_mask(
            image_u8, np.asarray(bbox, np.float32).tolist(), recist, iterations, seed
        )
        if cut.any():
            return LesionMask(cut, "grabcut")
        return LesionMask(recist_ellipse(_shape(image_u8), recist), "ellipse")
    rows, columns = surroundings(_shape(image_u8), bbox)
    crop = image_u8[rows, columns]
    left, top = columns.start, rows.start
    box = [bbox[0] - left, bbox[1] - top, bbox[2] - left, bbox[3] - top]
    # The pixels that the end points lie in; `seeds` would take those up and left of them.
    points = np.rint(np.asarray(recist, np.float64).reshape(4, 2)) - [left, top]
    cut = grabcut_mask(crop, box, points, iterations, seed)
    if cut[seeds(_shape(crop), box, points) == cv2.GC_PR_FGD].any():
        mask = np.zeros_like(image_u8)
        mask[rows, columns] = cut
        return LesionMask(mask, "grabcut")
    return LesionMask(recist_ellipse(_shape(image_u8), recist), "ellipse")


def encode_mask(mask: Mask) -> dict[str, object]:
    """COCO run lengths that JSON takes: ``{"size": [h, w], "counts": str}``."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}
