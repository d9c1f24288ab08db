"""Which boxes of a detector hit which lesions: what FROC counts, vectorized in numpy.

The rules of DeepLesion's official scorer are told in :mod:`deeplesion.evaluation.froc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: DeepLesion counts the pixels of a box from x1 to x2, both included.
PIXEL = 1.0
#: ``first_hit`` of a lesion that no box reaches.
MISSED = -1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Matches(NamedTuple):
    """What n boxes, by descending score, do to m lesions.

    Attributes:
        scores: ``(n,)`` descending; of equal ones the box given last comes first.
        false_positive: ``(n,)`` whether the box reaches no lesion.
        image: ``(n,)`` index of the box's image.
        first_hit: ``(m,)`` index into ``scores`` of the first box that reaches the lesion, or
            :data:`MISSED`. Lesions are in the order given.
        lesion_image: ``(m,)`` index of the lesion's image.
        num_images: Number of images.
    """

    scores: Floats
    false_positive: Bools
    image: Ints
    first_hit: Ints
    lesion_image: Ints
    num_images: int


def match_detections(
    detections: Sequence[ArrayLike], ground_truths: Sequence[ArrayLike], iou_threshold: float = 0.5
) -> Matches:
    """Find out which boxes hit which lesions.

    Time and memory go with the pairs of a box and a lesion of the same image.

    Args:
        detections: For each image ``(n, 5)``: x1, y1, x2, y2 in px and score. May be empty. A box
            that is inside out (``x2 <= x1 - 1``, or in y) reaches nothing, as decoders of the old
            convention may give them.
        ground_truths: For each image ``(m, 4)``: x1, y1, x2, y2 of its lesions. May be empty.
        iou_threshold: Least IoU at which a box reaches a lesion.

    Returns:
        The matches, boxes by descending score.

    Raises:
        ValueError: If the lists differ in length, an array has another shape, a score is NaN, a
            coordinate is not finite, a lesion has ``x2 < x1`` or ``y2 < y1`` (the image is named),
            or ``iou_threshold`` is not in (0, 1].
    """
    if len(detections) != len(ground_truths):
        raise ValueError(
            "detections and ground_truths must have one array per image each, "
            f"got {len(detections)} and {len(ground_truths)}"
        )
    if not 0 < iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou_threshold}")
    boxes, box_counts = _flatten(detections, 5, "detections")
    lesions, lesion_counts = _flatten(ground_truths, 4, "ground_truths")
    by_score = np.argsort(boxes[:, 4], kind="stable")[::-1]
    rank = np.empty_like(by_score)
    rank[by_score] = np.arange(len(boxes))

    box, lesion = _pairs_within_images(box_counts, lesion_counts)
    reaching = paired_iou(boxes[box, :4], lesions[lesion]) >= iou_threshold
    box, lesion = rank[box[reaching]], lesion[reaching]
    false_positive = np.ones(len(boxes), dtype=np.bool_)
    false_positive[box] = False
    first_hit = np.full(len(lesions), len(boxes))
    np.minimum.at(first_hit, lesion, box)
    return Matches(
        scores=boxes[by_score, 4],
        false_positive=false_positive,
        image=np.repeat(np.arange(len(box_counts)), box_counts)[by_score],
        first_hit=np.where(first_hit < len(boxes), first_hit, MISSED),
        lesion_image=np.repeat(np.arange(len(lesion_counts)), lesion_counts),
        num_images=len(box_counts),
    )


def select_images(matches: Matches, images: ArrayLike) -> Matches:
    """Matches of some images as a set of their own.

    Args:
        matches: Of :func:`match_detections`.
        images: ``(num_images,)`` bool.

    Returns:
        Their boxes and lesions, images numbered anew.

    Raises:
        ValueError: If ``images`` is of another shape.
    """
    images = checked_mask(images, matches.num_images, "images")
    boxes, lesions = images[matches.image], images[matches.lesion_image]
    new_image, new_box = np.cumsum(images) - 1, np.cumsum(boxes) - 1
    first_hit = matches.first_hit[lesions]
    hit = first_hit != MISSED
    first_hit[hit] = new_box[first_hit[hit]]
    return Matches(
        scores=matches.scores[boxes],
        false_positive=matches.false_positive[boxes],
        image=new_image[matches.image[boxes]],
        first_hit=first_hit,
        lesion_image=new_image[matches.lesion_image[lesions]],
        num_images=int(images.sum()),
    )


def paired_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """IoU of boxes row by row, widths counted as ``x2 - x1 + 1``.

    Args:
        first: ``(P, 4)`` x1, y1, x2, y2 in px; boxes that are inside out overlap nothing.
        second: ``(P, 4)`` x1, y1, x2, y2 in px, ``x1 <= x2`` and ``y1 <= y2``.

    Returns:
        ``(P,)`` in [0, 1].
    """
    ax1, ay1, ax2, ay2 = np.asarray(first, np.float64).T
    bx1, by1, bx2, by2 = np.asarray(second, np.float64).T
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + PIXEL
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1) + PIXEL
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = np.maximum(ax2 - ax1 + PIXEL, 0) * np.maximum(ay2 - ay1 + PIXEL, 0)
    area_b = (bx2 - bx1 + PIXEL) * (by2 - by1 + PIXEL)
    return shared / (area_a + area_b - shared)


def checked_mask(values: ArrayLike, length: int, name: str) -> Bools:
    """``values`` as a bool array ``(length,)``; ValueError naming them where they are not."""
    mask = np.asarray(values)
    if mask.shape != (length,) or mask.dtype != np.bool_:
        raise ValueError(f"{name} must be bool ({length},), got {mask.dtype} {mask.shape}")
    return mask


def _pairs_within_images(box_counts: Ints, lesion_counts: Ints) -> tuple[Ints, Ints]:
    """Flat indices of box and lesion of all pairs of the same image, lesion after lesion."""
    first_box = np.repeat(np.cumsum(box_counts) - box_counts, lesion_counts)
    partners = np.repeat(box_counts, lesion_counts)
    start = np.cumsum(partners) - partners
    lesion = np.repeat(np.arange(len(partners)), partners)
    return np.arange(len(lesion)) + np.repeat(first_box - start, partners), lesion


def _flatten(per_image: Sequence[Any], columns: int, name: str) -> tuple[Floats, Ints]:
    """Rows of all images, checked, and the number of rows of each image."""
    arrays = [np.asarray(rows) for rows in per_image]
    for index, rows in enumerate(arrays):
        if rows.size and (rows.ndim != 2 or rows.shape[1] != columns):
            wanted = f"(n, {columns})"
            raise ValueError(f"{name} of image {index} must be {wanted}, got {rows.shape}")
    counts = np.array([len(rows) if rows.size else 0 for rows in arrays], dtype=np.int64)
    filled = [rows for rows in arrays if rows.size]
    flat = np.concatenate(filled or [np.empty((0, columns))]).astype(np.float64)
    inside_out = (flat[:, 2:4] < flat[:, :2]) & (name == "ground_truths")
    for wrong, complaint in (
        (~np.isfinite(flat[:, :4]), "box must be finite"),
        (inside_out, "box must have x1 <= x2 and y1 <= y2"),
        (np.isnan(flat[:, 4:]), "score must not be NaN"),
    ):
        if wrong.any():
            row = int(np.argwhere(wrong)[0, 0])
            index = int(np.searchsorted(np.cumsum(counts), row, side="right"))
            raise ValueError(f"{name} of image {index}: {complaint}, got {flat[row].tolist()}")
    return flat, counts
