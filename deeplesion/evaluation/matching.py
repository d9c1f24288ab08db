"""Which boxes of a detector hit which lesions: what FROC counts, vectorized in numpy.

The rules of DeepLesion's official scorer are told in :mod:`deeplesion.evaluation.froc`; the
criteria of overlap in :mod:`deeplesion.evaluation.overlaps`. :func:`match_detections` takes the
boxes of images, :mod:`deeplesion.evaluation.volumes` those of volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplesion.evaluation.overlaps import (
    Floats,
    Ints,
    Overlap,
    check_criterion,
    paired_overlap,
    reaching_pairs,
)

#: ``first_hit`` of a lesion that no box reaches.
MISSED = -1

Bools = NDArray[np.bool_]


class Matches(NamedTuple):
    """What n boxes, by descending score, do to m lesions.

    Attributes:
        scores: ``(n,)`` descending; of equal ones the box given last comes first.
        false_positive: ``(n,)`` whether the box reaches no lesion; one to one, none that is left.
        image: ``(n,)`` index of the box's image.
        first_hit: ``(m,)`` index into ``scores`` of the first box that reaches the lesion (one to
            one, of the box that takes it), or :data:`MISSED`. Lesions are in the order given.
        lesion_image: ``(m,)`` index of the lesion's image.
        num_images: Number of images.
        box: ``(n,)`` index of the box among those given for its image.
    """

    scores: Floats
    false_positive: Bools
    image: Ints
    first_hit: Ints
    lesion_image: Ints
    num_images: int
    box: Ints


def match_detections(
    detections: Sequence[ArrayLike],
    ground_truths: Sequence[ArrayLike],
    iou_threshold: float = 0.5,
    *,
    criterion: str = "iou",
    threshold: float | None = None,
    one_to_one: bool = False,
) -> Matches:
    """Find out which boxes hit which lesions.

    Time and memory go with the pairs of a box and a lesion of the same image.

    Args:
        detections: For each image ``(n, 5)``: x1, y1, x2, y2 in px and score. May be empty. A box
            that is inside out (``x2 <= x1 - 1``, or in y) reaches nothing, as decoders of the old
            convention may give them.
        ground_truths: For each image ``(m, 4)``: x1, y1, x2, y2 of its lesions. May be empty.
        iou_threshold: Name of ``threshold`` in the official protocol; counts where that is None.
        criterion: ``iou`` as in the official protocol, ``iobb`` or ``center``, see
            :data:`deeplesion.evaluation.overlaps.CRITERIA`.
        threshold: Least overlap, by the criterion, at which a box reaches a lesion; ``center`` has
            no use for it.
        one_to_one: Whether a box takes one lesion, which none after it can take: by descending
            score the one of highest overlap among those that it reaches and that are left (of
            equal overlap the one of higher IoU, then the one given first). A box for which none is
            left, a duplicate, is a false positive.

    Returns:
        The matches, boxes by descending score.

    Raises:
        ValueError: If the lists differ in length, an array has another shape, a score is NaN, a
            coordinate is not finite, a lesion has ``x2 < x1`` or ``y2 < y1`` (the image is named),
            the threshold is not in (0, 1] or the criterion unknown.
    """
    name, least = "threshold", threshold
    if least is None:
        name, least = "iou_threshold", iou_threshold
    check_criterion(criterion, least, name)
    boxes, box_counts, lesions, lesion_counts = flatten_pair(detections, ground_truths, axes=2)

    def overlap(by: str, box: Ints, lesion: Ints) -> Floats:
        return paired_overlap(by, boxes.take(box, axis=0)[:, :4], lesions.take(lesion, axis=0))

    return match_flat(boxes[:, 4], box_counts, lesion_counts, overlap, criterion, least, one_to_one)


def match_flat(
    scores: Floats,
    box_counts: Ints,
    lesion_counts: Ints,
    overlap: Overlap,
    criterion: str,
    threshold: float,
    one_to_one: bool,
) -> Matches:
    """Match boxes and lesions that are given as flat indices, image after image.

    Args:
        scores: ``(n,)`` of all boxes.
        box_counts: ``(num_images,)`` boxes of each image.
        lesion_counts: ``(num_images,)`` lesions of each image.
        overlap: Called with indices of boxes and lesions of the same image.
        criterion: Criterion that the boxes are matched by.
        threshold: Least overlap at which a box reaches a lesion.
        one_to_one: As in :func:`match_detections`.

    Returns:
        The matches, boxes by descending score.
    """
    by_score = _descending(scores)
    rank = np.empty_like(by_score)
    rank[by_score] = np.arange(len(scores))
    box, lesion, shares = reaching_pairs(box_counts, lesion_counts, overlap, criterion, threshold)
    if one_to_one:
        preference = np.lexsort((lesion, -overlap("iou", box, lesion), -shares))
        box, lesion = _take(rank[box[preference]], lesion[preference], int(lesion_counts.sum()))
    else:
        box = rank[box]
    false_positive = np.ones(len(scores), dtype=np.bool_)
    false_positive[box] = False
    first_hit = np.full(int(lesion_counts.sum()), len(scores))
    np.minimum.at(first_hit, lesion, box)
    first_box = np.cumsum(box_counts) - box_counts
    image = np.repeat(np.arange(len(box_counts)), box_counts)[by_score]
    return Matches(
        scores=scores[by_score],
        false_positive=false_positive,
        image=image,
        first_hit=np.where(first_hit < len(scores), first_hit, MISSED),
        lesion_image=np.repeat(np.arange(len(lesion_counts)), lesion_counts),
        num_images=len(box_counts),
        box=by_score - first_box[image],
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
        box=matches.box[boxes],
    )


def checked_mask(values: ArrayLike, length: int, name: str) -> Bools:
    """``values`` as a bool array ``(length,)``; ValueError naming them where they are not."""
    mask = np.asarray(values)
    if mask.shape != (length,) or mask.dtype != np.bool_:
        raise ValueError(f"{name} must be bool ({length},), got {mask.dtype} {mask.shape}")
    return mask


def flatten_pair(
    detections: Sequence[Any], ground_truths: Sequence[Any], axes: int, unit: str = "image"
) -> tuple[Floats, Ints, Floats, Ints]:
    """Rows of all images, checked, and the number of rows of each.

    Args:
        detections: For each image ``(n, 2 * axes + 1)``, the score last.
        ground_truths: For each image ``(m, 2 * axes)``.
        axes: 2 or 3.
        unit: What messages call an image.

    Returns:
        Boxes and their counts, lesions and their counts.

    Raises:
        ValueError: As :func:`match_detections`.
    """
    if len(detections) != len(ground_truths):
        raise ValueError(
            f"detections and ground_truths must have one array per {unit} each, "
            f"got {len(detections)} and {len(ground_truths)}"
        )
    boxes, box_counts = _flatten(detections, 2 * axes + 1, f"detections of {unit}")
    lesions, lesion_counts = _flatten(ground_truths, 2 * axes, f"ground_truths of {unit}")
    inside_out = lesions[:, axes:] < lesions[:, :axes]
    # One sum tells of almost all data that there is neither NaN nor infinity in them.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(boxes.sum() + lesions.sum()) and not inside_out.any():
            return boxes, box_counts, lesions, lesion_counts
    wanted = " and ".join(f"{axis}1 <= {axis}2" for axis in "xyz"[:axes])
    for rows, counts, wrong, complaint in (
        (boxes, box_counts, ~np.isfinite(boxes[:, :-1]), "detections {}: box must be finite"),
        (boxes, box_counts, np.isnan(boxes[:, -1:]), "detections {}: score must not be NaN"),
        (lesions, lesion_counts, ~np.isfinite(lesions), "ground_truths {}: box must be finite"),
        (lesions, lesion_counts, inside_out, f"ground_truths {{}}: box must have {wanted}"),
    ):
        if wrong.any():
            row = int(np.argwhere(wrong)[0, 0])
            index = int(np.searchsorted(np.cumsum(counts), row, side="right"))
            where = complaint.format(f"of {unit} {index}")
            raise ValueError(f"{where}, got {rows[row].tolist()}")
    return boxes, box_counts, lesions, lesion_counts


def _descending(scores: Floats) -> Ints:
    """Order of descending scores, of equal ones the last first: a stable sort, reversed.

    The default sort is several times faster than the stable one. What it does not order, equal
    scores, is ordered after it.
    """
    scores = np.ascontiguousarray(scores)
    order = np.argsort(scores)
    ascending = scores[order]
    same = ascending[1:] == ascending[:-1]
    if same.any():
        tied = np.append(same, False) | np.append(False, same)
        # One number for each score and box, in the order of both.
        keys = np.cumsum(np.append(True, ~same))[tied] * len(scores) + order[tied]
        order[tied] = np.sort(keys) % len(scores)
    return order[::-1]


def _take(box: Ints, lesion: Ints, num_lesions: int) -> tuple[Ints, Ints]:
    """Of pairs by descending preference of each box, those in which the box takes the lesion.

    That the boxes choose one after the other, the lowest number first, gives what deferred
    acceptance gives (D. Gale, L. Shapley, 1962): all ask for their next lesion at once, and each
    lesion keeps the lowest of those that asked for it. That takes few rounds instead of a loop.
    """
    order = np.argsort(box, kind="stable")
    box, lesion = box[order], lesion[order]
    last = np.append(box[1:] != box[:-1], True)
    asking = np.flatnonzero(np.append(True, last)[: len(box)])
    kept = np.full(num_lesions, np.iinfo(np.int64).max)
    while True:
        np.minimum.at(kept, lesion[asking], box[asking])
        refused = kept[lesion[asking]] != box[asking]
        if not refused.any():
            return box[asking], lesion[asking]
        asking = asking[~(refused & last[asking])]
        asking = asking + (kept[lesion[asking]] != box[asking])


def _flatten(per_image: Sequence[Any], columns: int, name: str) -> tuple[Floats, Ints]:
    """Rows of all images and the number of rows of each image."""
    arrays = [np.asarray(rows) for rows in per_image]
    for index, rows in enumerate(arrays):
        if rows.size and (rows.ndim != 2 or rows.shape[1] != columns):
            raise ValueError(f"{name} {index} must be (n, {columns}), got {rows.shape}")
    counts = np.array([len(rows) if rows.size else 0 for rows in arrays], dtype=np.int64)
    filled = [rows for rows in arrays if rows.size]
    flat = np.concatenate(filled or [np.empty((0, columns))]).astype(np.float64, copy=False)
    return flat, counts
