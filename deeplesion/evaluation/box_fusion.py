"""Weighted box fusion: one box out of those that several detectors, or views, give of a lesion.

R. Solovyev, W. Wang and T. Gabruseva, "Weighted boxes fusion: Ensembling boxes from different
object detection models", Image and Vision Computing 107, 2021 (arXiv 1910.13302). Unlike
non-maximum suppression it throws no box away. Boxes of all detectors are taken from the highest
score down; each joins the cluster whose fused box it overlaps most, if by more than a threshold,
and begins a cluster of its own otherwise. The fused box of a cluster is the mean of its members,
weighted by their scores; its score is their mean, times ``min(T, N) / N`` for ``T`` members from
``N`` detectors, so that what only one of them sees counts less.

Images are fused many at a time: step ``k`` places the ``k``-th box of each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplesion.evaluation.matching import Bools
from deeplesion.evaluation.overlaps import PIXEL, Floats, Ints

#: The paper's threshold.
IOU_THRESHOLD = 0.55
#: Images that are fused at a time: their arrays stay in the cache.
IMAGES_AT_A_TIME = 128
#: Weight of a member without score in a cluster where none has one.
NO_SCORE = 1e-100
SKIPPED = -1


class FusedBoxes(NamedTuple):
    """What became of the boxes of an image.

    Attributes:
        boxes: ``(m, 4)`` x1, y1, x2, y2 in px, by falling score.
        scores: ``(m,)``, each at most the highest score among its members.
        cluster: ``(n,)`` index of the fused box that each box given, detector after detector, went
            into; -1 where it was left out for its score.
    """

    boxes: Floats
    scores: Floats
    cluster: Ints


def weighted_box_fusion(
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    weights: Sequence[float] | None = None,
    iou_threshold: float = IOU_THRESHOLD,
    skip_score: float = 0.0,
) -> FusedBoxes:
    """Fuse the boxes that N detectors give of one image.

    The order of detectors does not matter, nor that of their boxes.

    Args:
        boxes: Of each detector ``(n_i, 4)`` x1, y1, x2, y2 in px. Widths are ``x2 - x1 + 1``, as
            everywhere in :mod:`deeplesion.evaluation`.
        scores: Of each detector ``(n_i,)``, 0 or more.
        weights: How much each detector counts, > 0; None: all the same. Only their ratios matter.
            A fused score never exceeds the highest of its members', which high weights might.
        iou_threshold: A box joins a cluster if its IoU with the fused box is more than this.
        skip_score: Boxes of lower scores are left out.

    Returns:
        The fused boxes.

    Raises:
        ValueError: There is no detector, a shape does not fit, a number is not finite, a score is
            negative, a weight is not > 0, or the threshold is not in [0, 1).

    Example:
        >>> one, other = [[0, 0, 9, 9]], [[2, 0, 11, 9]]
        >>> fused = weighted_box_fusion([one, other], [[0.6], [0.3]], iou_threshold=0.5)
        >>> [round(x, 3) for x in [*fused.boxes[0].tolist(), *fused.scores.tolist()]]
        [0.667, 0.0, 9.667, 9.0, 0.45]
    """
    return fuse_images([(boxes, scores)], weights, iou_threshold, skip_score)[0]


def fuse_images(
    images: Sequence[tuple[Sequence[ArrayLike], Sequence[ArrayLike]]],
    weights: Sequence[float] | None = None,
    iou_threshold: float = IOU_THRESHOLD,
    skip_score: float = 0.0,
) -> list[FusedBoxes]:
    """Fuse the boxes of many images, a good deal faster than one by one.

    Args:
        images: Of each image boxes and scores, see :func:`weighted_box_fusion`.
        weights, iou_threshold, skip_score: See there.

    Returns:
        Of each image the fused boxes.

    Raises:
        ValueError: See :func:`weighted_box_fusion`; it names the image by its index.
    """
    if not 0 <= iou_threshold < 1:
        raise ValueError(f"iou_threshold must be in [0, 1), got {iou_threshold}")
    shares = _checked_weights(weights, len(images[0][0])) if images else np.ones(0)
    sorted_images = [
        _sorted_boxes(boxes, scores, shares, skip_score, f"image {index}")
        for index, (boxes, scores) in enumerate(images)
    ]
    # Those with as many boxes together, for each step takes as long as the image with the most.
    order = np.argsort([len(image.weighted) for image in sorted_images], kind="stable")
    fused: list[FusedBoxes | None] = [None] * len(images)
    for start in range(0, len(order), IMAGES_AT_A_TIME):
        part = order[start : start + IMAGES_AT_A_TIME]
        clusters = _clusters([sorted_images[i] for i in part], iou_threshold)
        for i, cluster in zip(part, clusters, strict=True):
            fused[i] = _fused(sorted_images[i], cluster, shares)
    return [one for one in fused if one is not None]


def vote_masks(masks: ArrayLike, weights: ArrayLike) -> Bools:
    """The mask of a fused box: pixels for which members of at least half of the weight are.

    That is to masks what the mean of the members is to boxes. The mask of the best member alone
    would not fit the fused box, and a mean of few binary masks has edges no softer than a vote. Of
    two members of different weight the heavier one has its way.

    Args:
        masks: ``(T, H, W)`` of the members, 0 or 1.
        weights: ``(T,)`` their scores, times those of their detectors; all 0 count alike.

    Returns:
        ``(H, W)`` bool.
    """
    votes = np.maximum(np.asarray(weights, np.float64), NO_SCORE)
    won: Bools = np.tensordot(votes, np.asarray(masks, np.float64), 1) >= votes.sum() / 2
    return won


class _Sorted(NamedTuple):
    """Boxes of an image that take part, by falling weighted score."""

    boxes: Floats  # (k, 4)
    scores: Floats  # (k,)
    weighted: Floats  # (k,)
    place: Ints  # (k,) where each stood in the input
    total: int  # boxes in the input


def _checked_weights(weights: Sequence[float] | None, detectors: int) -> Floats:
    """Weights whose mean is 1."""
    if not detectors:
        raise ValueError("fusion needs the boxes of at least one detector, got none")
    values = np.ones(detectors) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (detectors,) or not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"weights must be {detectors} numbers > 0, got {weights}")
    return values / values.mean()


def _sorted_boxes(
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    shares: Floats,
    skip_score: float,
    where: str,
) -> _Sorted:
    if not len(boxes) == len(scores) == len(shares):
        raise ValueError(
            f"{where} must have boxes and scores of {len(shares)} detectors, got {len(boxes)} and "
            f"{len(scores)}"
        )
    parts = [np.asarray(part, np.float64).reshape(-1, 4) for part in boxes]
    values = [np.asarray(part, np.float64).reshape(-1) for part in scores]
    if any(len(p) != len(v) for p, v in zip(parts, values, strict=True)):
        raise ValueError(f"{where} must have as many scores as boxes of each detector")
    every, score = np.concatenate(parts), np.concatenate(values)
    if not (np.isfinite(every).all() and np.isfinite(score).all() and (score >= 0).all()):
        raise ValueError(f"{where} must have finite boxes and scores, and scores >= 0")
    if (every[:, 2:] < every[:, :2]).any():
        raise ValueError(f"{where} must have boxes of x1 <= x2 and y1 <= y2")
    share = np.repeat(shares, [len(part) for part in parts])
    place = np.flatnonzero(score >= skip_score)
    weighted = score * share
    # Equal scores by what the boxes are, not by whose they are: any order gives the same.
    keys = (*every[place].T, score[place], -weighted[place])
    place = place[np.lexsort(keys)]
    return _Sorted(every[place], score[place], weighted[place], place, len(score))


def _clusters(images: Sequence[_Sorted], iou_threshold: float) -> list[Ints]:
    """Of each image ``(k,)`` the cluster of each box, numbered as they begin."""
    counts = np.array([len(image.weighted) for image in images])
    rows, most = np.arange(len(images)), int(counts.max(initial=0))
    boxes = np.zeros((most, 4, len(images)))
    weights = np.zeros((most, len(images)))
    for row, image in enumerate(images):
        boxes[: counts[row], :, row] = image.boxes
        weights[: counts[row], row] = np.maximum(image.weighted, NO_SCORE)
    fused = np.empty((4, len(images), most))
    fused[:2], fused[2:] = np.inf, -np.inf  # what no cluster is yet overlaps nothing
    sums, mass = np.zeros_like(fused), np.zeros((len(images), most))
    areas = np.zeros((len(images), most))
    begun = np.zeros(len(images), np.int64)
    cluster = np.full((most, len(images)), SKIPPED)
    for k in range(most):
        live = rows[k < counts]
        slot = begun[live]
        if here := int(begun.max()):
            overlap = _overlaps(boxes[k], fused[:, :, :here], areas[:, :here])[live]
            best = overlap.argmax(axis=1)
            slot = np.where(overlap[np.arange(len(live)), best] > iou_threshold, best, slot)
        alone = slot == begun[live]
        own = boxes[k][:, live]
        sums[:, live, slot] += weights[k, live] * own
        mass[live, slot] += weights[k, live]
        joined = np.where(alone, own, sums[:, live, slot] / mass[live, slot])
        fused[:, live, slot] = joined
        areas[live, slot] = _area(joined)
        cluster[k, live] = slot
        begun[live] += alone
    return [cluster[: counts[row], row] for row in rows]


def _overlaps(box: Floats, fused: Floats, areas: Floats) -> Floats:
    """``(B, K)`` IoU of ``(4, B)`` boxes with ``(4, B, K)`` fused ones of ``(B, K)`` areas."""
    x1, y1, x2, y2 = box[:, :, None]
    width = np.minimum(x2, fused[2]) - np.maximum(x1, fused[0]) + PIXEL
    height = np.minimum(y2, fused[3]) - np.maximum(y1, fused[1]) + PIXEL
    shared = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
    return shared / (_area(box)[:, None] + areas - shared)


def _area(box: Floats) -> Floats:
    """Pixels of ``(4, ...)`` boxes."""
    pixels: Floats = (box[2] - box[0] + PIXEL) * (box[3] - box[1] + PIXEL)
    return pixels


def _fused(image: _Sorted, cluster: Ints, shares: Floats) -> FusedBoxes:
    number = int(cluster.max(initial=SKIPPED)) + 1
    members = np.bincount(cluster, minlength=number)
    weights = np.maximum(image.weighted, NO_SCORE)
    mass = np.bincount(cluster, weights, number)
    columns = [np.bincount(cluster, weights * x, number) / mass for x in image.boxes.T]
    boxes = np.stack(columns, axis=1)
    _, first = np.unique(cluster, return_index=True)
    # A quotient of products is not always the number itself.
    alone = members == 1
    boxes[alone] = image.boxes[first[alone]]
    scores = np.bincount(cluster, image.weighted, number) / members
    scores *= np.minimum(members, len(shares)) / len(shares)
    highest = np.zeros(number)
    np.maximum.at(highest, cluster, image.scores)
    scores = np.minimum(scores, highest)
    order = np.argsort(-scores, kind="stable")
    rank: NDArray[np.int64] = np.empty(number, np.int64)
    rank[order] = np.arange(number)
    places = np.full(image.total, SKIPPED)
    places[image.place] = rank[cluster]
    return FusedBoxes(boxes[order], scores[order], places)
