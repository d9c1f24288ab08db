"""When a box reaches a lesion: overlap criteria, in 2D and 3D by one code path over axes.

A box of k axes is a row of 2k numbers, lower ends before upper ends: ``x1, y1, x2, y2`` or
``x1, y1, z1, x2, y2, z2``, in px and slices, both ends included. Pixel (or slice) ``i`` covers
``i - 0.5`` to ``i + 0.5``, so that widths are ``x2 - x1 + 1``, as the official protocol of
DeepLesion counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: DeepLesion counts the pixels of a box from x1 to x2, both included.
PIXEL = 1.0

#: Pairs of a box and a lesion whose overlaps are computed at a time.
PAIRS_AT_A_TIME = 1 << 14

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Overlap by the criterion named of boxes and lesions given as flat indices ``(P,)`` each.
Overlap = Callable[[str, Ints, Ints], Floats]


class Criterion(NamedTuple):
    """A measure of overlap.

    Attributes:
        label: How tables name it.
        overlap: Takes boxes and lesions ``(P, 2k)`` row by row, gives ``(P,)`` in [0, 1].
        graded: Whether a threshold on it makes a difference.
    """

    label: str
    overlap: Callable[[ArrayLike, ArrayLike], Floats]
    graded: bool = True


def paired_iou(boxes: ArrayLike, lesions: ArrayLike) -> Floats:
    """IoU of boxes row by row: intersection over union.

    Args:
        boxes: ``(P, 2k)``; one that is inside out (``x2 <= x1 - 1``, on any axis) overlaps nothing.
        lesions: ``(P, 2k)``, ``x1 <= x2`` on every axis.

    Returns:
        ``(P,)`` in [0, 1].
    """
    shared, boxes_size, lesions_size = _sizes(boxes, lesions)
    return shared / (boxes_size + lesions_size - shared)


def paired_iobb(boxes: ArrayLike, lesions: ArrayLike) -> Floats:
    """IoBB of boxes row by row: intersection over the detected box, never below their IoU.

    A box within a lesion has 1, however small it is. Used by K. Yan et al., "Learning from Multiple
    Datasets with Heterogeneous and Partial Labels for Universal Lesion Detection in CT", IEEE TMI
    2020, with a threshold of 0.3 in 3D.

    Args:
        boxes: As those of :func:`paired_iou`.
        lesions: As those of :func:`paired_iou`.

    Returns:
        ``(P,)`` in [0, 1].
    """
    shared, boxes_size, _ = _sizes(boxes, lesions)
    return np.divide(shared, boxes_size, out=np.zeros_like(shared), where=boxes_size > 0)


def paired_center(boxes: ArrayLike, lesions: ArrayLike) -> Floats:
    """Whether the center of a box lies in a lesion's box, row by row.

    The center is ``(x1 + x2) / 2`` and must be in ``x1 - 0.5`` to ``x2 + 0.5`` of the lesion, both
    included, on every axis: the pixels of the lesion's box with the whole of their width.

    Args:
        boxes: As those of :func:`paired_iou`.
        lesions: As those of :func:`paired_iou`.

    Returns:
        ``(P,)`` 1 or 0.
    """
    inside: NDArray[np.bool_] = np.array(True)
    for low, high, start, end in _axes(boxes, lesions):
        center = (low + high) / 2
        inside = inside & (high - low + PIXEL > 0)
        inside = inside & (start - PIXEL / 2 <= center) & (center <= end + PIXEL / 2)
    return inside.astype(np.float64)


CRITERIA = {
    "iou": Criterion("IoU", paired_iou),
    "iobb": Criterion("IoBB", paired_iobb),
    "center": Criterion("center in box", paired_center, graded=False),
}


def paired_overlap(criterion: str, boxes: ArrayLike, lesions: ArrayLike) -> Floats:
    """Overlap by a criterion of :data:`CRITERIA`, row by row; see :func:`paired_iou`."""
    return CRITERIA[criterion].overlap(boxes, lesions)


def check_criterion(criterion: str, threshold: float, name: str = "threshold") -> None:
    """Raise ValueError unless the criterion is known and the threshold, ``name``, in (0, 1]."""
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {threshold}")


def describe_rule(criterion: str, threshold: float, one_to_one: bool) -> str:
    """A rule of matching in words: ``IoU >= 0.5``, ``IoBB >= 0.3, one to one``."""
    known = CRITERIA[criterion]
    rule = f"{known.label} >= {threshold:g}" if known.graded else known.label
    return f"{rule}, one to one" if one_to_one else rule


def reaching_pairs(
    box_counts: Ints, lesion_counts: Ints, overlap: Overlap, criterion: str, threshold: float
) -> tuple[Ints, Ints, Floats]:
    """Pairs of a box and a lesion of the same image that it reaches.

    Images are taken some at a time: what is computed of their pairs stays in the cache.

    Args:
        box_counts: ``(N,)`` boxes of each image.
        lesion_counts: ``(N,)`` lesions of each image.
        overlap: Called with the pairs of some images.
        criterion: Handed to it.
        threshold: Least overlap at which a box reaches a lesion.

    Returns:
        Flat indices of box and lesion ``(P,)`` each, lesion after lesion, and their overlaps.
    """
    pairs = np.cumsum(box_counts * lesion_counts)
    edges = np.searchsorted(pairs, np.arange(PAIRS_AT_A_TIME, pairs[-1:].sum(), PAIRS_AT_A_TIME))
    first_box, first_lesion = (np.cumsum(n) - n for n in (box_counts, lesion_counts))
    found = []
    for part in np.split(np.arange(len(pairs)), np.unique(edges)):
        if len(part):
            box, lesion = _pairs_within_images(box_counts[part], lesion_counts[part])
            box += first_box[part[0]]
            lesion += first_lesion[part[0]]
            shares = overlap(criterion, box, lesion)
            reaching = shares >= threshold
            found.append((box[reaching], lesion[reaching], shares[reaching]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    boxes, lesions, overlaps = zip(*found, strict=True)
    return np.concatenate(boxes), np.concatenate(lesions), np.concatenate(overlaps)


def _pairs_within_images(box_counts: Ints, lesion_counts: Ints) -> tuple[Ints, Ints]:
    """Flat indices of box and lesion of all pairs of the same image, lesion after lesion."""
    first_box = np.repeat(np.cumsum(box_counts) - box_counts, lesion_counts)
    partners = np.repeat(box_counts, lesion_counts)
    start = np.cumsum(partners) - partners
    lesion = np.repeat(np.arange(len(partners)), partners)
    return np.arange(len(lesion)) + np.repeat(first_box - start, partners), lesion


def _axes(boxes: ArrayLike, lesions: ArrayLike) -> list[tuple[Floats, ...]]:
    """For each axis lower and upper ends of the boxes, then of the lesions, each ``(P,)``."""
    first, second = np.asarray(boxes, np.float64).T, np.asarray(lesions, np.float64).T
    k = len(first) // 2
    return list(zip(first[:k], first[k:], second[:k], second[k:], strict=True))


def _sizes(boxes: ArrayLike, lesions: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Pixels in common, of the boxes and of the lesions, each ``(P,)``."""
    shared: Floats = np.array(1.0)
    boxes_size = lesions_size = shared
    for low, high, start, end in _axes(boxes, lesions):
        shared = shared * np.maximum(np.minimum(high, end) - np.maximum(low, start) + PIXEL, 0)
        boxes_size = boxes_size * np.maximum(high - low + PIXEL, 0)
        lesions_size = lesions_size * (end - start + PIXEL)
    return shared, boxes_size, lesions_size
