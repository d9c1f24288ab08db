"""From boxes in slices to lesions in 3D.

1. Boxes below ``link_threshold`` are dropped, and those that lie in a better one of their slice,
   by the rule of step 5: detectors suppress by IoU and leave boxes about parts of a lesion, which
   would be linked to the next slice's box of the whole, and break the lesion in two.
2. *Linking.* Two boxes of different slices may be linked if their IoU reaches ``iou_threshold``
   and their slices are at most ``max_gap`` apart. Of all such pairs, those of the nearest slices
   are taken first, of these the ones of highest IoU, then of the highest sum of scores, then those
   of the upper slice. A box is linked at most once upwards and at most once downwards, so that
   chains of boxes come out, each with at most one box per slice. Neither the order of the input nor
   the direction in which one looks through the slices makes a difference (but for exact ties).
3. *Score.* That of a chain is the highest of its boxes. So a lesion scores above a threshold if and
   only if a box of it does, which is what FROC counts on key slices: operating points that were
   chosen there keep their meaning. A mean would fall with every faint slice at a lesion's ends, a
   noisy-or would grow with the number of slices, thus with thin slices.
4. Chains below ``score_threshold`` or of fewer than ``min_slices`` slices are dropped.
5. *Non-maximum suppression in 3D*, see :mod:`deeplesion.lesions.suppression`.
6. Lesions are numbered from 1 in descending order of score; of equal ones those of more slices
   come first, then those of the upper key slice, then by box. The key slice is that of the box of
   highest score; of equal ones of the largest, then of the uppermost.

Two thresholds of score, as of edges in pictures: faint boxes complete a lesion that one strong box
attests, but make none. :func:`deeplesion.evaluation.volumes.link_slices` links tracklets for
evaluation, slice by slice downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.overlaps import PIXEL, Floats, Ints, paired_overlap, reaching_pairs
from deeplesion.lesions.lesion import Lesion, SliceDetections, SliceMask
from deeplesion.lesions.suppression import suppressed

IOU_THRESHOLD = 0.2
LINK_THRESHOLD = 0.1
SCORE_THRESHOLD = 0.3
NMS_THRESHOLD = 0.5
#: Unless told, boxes are linked over one missed key slice, and at least over so many mm.
LEAST_MAX_GAP = 5.0
_ROUNDING = 1e-6


class _Boxes(NamedTuple):
    """All boxes, by slice, then by descending score, then by corners.

    Attributes:
        z: ``(n,)``.
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        masks: One per box, or none.
    """

    z: Ints
    boxes: Floats
    scores: Floats
    masks: list[SliceMask]

    def take(self, rows: Ints) -> _Boxes:
        """Some of them."""
        masks = [self.masks[row] for row in rows] if self.masks else []
        return _Boxes(self.z[rows], self.boxes[rows], self.scores[rows], masks)


def key_stride(detections: Sequence[SliceDetections]) -> int:
    """The least distance of key slices, in slices; 1 if there are fewer than two."""
    slices = np.unique([found.z for found in detections])
    return int(np.diff(slices).min()) if len(slices) > 1 else 1


def default_max_gap(stride: int, slice_interval: float) -> float:
    """How far apart boxes may be linked unless told, in mm.

    Args:
        stride: Distance of key slices, in slices.
        slice_interval: In mm.

    Returns:
        Twice the distance of key slices, so that one may be missed, but at least
        :data:`LEAST_MAX_GAP`.
    """
    return max(2 * stride * slice_interval, LEAST_MAX_GAP)


def link_detections(
    detections: Sequence[SliceDetections],
    spacing: ArrayLike,
    *,
    iou_threshold: float = IOU_THRESHOLD,
    max_gap: float | None = None,
    min_slices: int = 1,
    link_threshold: float = LINK_THRESHOLD,
    score_threshold: float = SCORE_THRESHOLD,
    nms_threshold: float = NMS_THRESHOLD,
) -> list[Lesion]:
    """Link boxes of neighboring key slices to lesions, by the rules that the module's text tells.

    Args:
        detections: Of every key slice, in any order, those without boxes too: the least distance
            of them is taken for the stride.
        spacing: ``(3,)`` distance of voxels along x, y and z in mm.
        iou_threshold: Least IoU of linked boxes, in (0, 1].
        max_gap: Greatest distance in mm of the slices of linked boxes, center to center; None
            for :func:`default_max_gap`.
        min_slices: Least number of slices that a lesion has a box in.
        link_threshold: Least score of boxes that are looked at.
        score_threshold: Least score of a lesion.
        nms_threshold: Share of the smaller of two boxes of a slice, or of two lesions, that must
            lie in the other for the one of lower score to be dropped, in (0, 1]; above 1 to keep
            all.

    Returns:
        The lesions, by number.

    Raises:
        ValueError: If a threshold is out of range, a slice is there twice, a box is inside out or
            not finite, a score not in [0, 1], or masks are there for some boxes only.
    """
    step = np.asarray(spacing, np.float64)
    if step.shape != (3,) or not (np.isfinite(step).all() and (step > 0).all()):
        raise ValueError(f"spacing must be three distances > 0 mm, got {spacing!r}")
    interval = float(step[2])
    if max_gap is None:
        max_gap = default_max_gap(key_stride(detections), interval)
    _check_rules(iou_threshold, max_gap, min_slices, nms_threshold)
    for name, value in (("link", link_threshold), ("score", score_threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}_threshold must be in [0, 1], got {value}")
    found = _without_parts(_sorted_boxes(detections, link_threshold), nms_threshold)
    reach = int(np.floor(max_gap / interval + _ROUNDING))
    chain = _chains(found, reach, iou_threshold)
    ranked = _ranked(found, chain, min_slices, score_threshold)
    slices = np.unique([each.z for each in detections]).astype(np.int64)
    tubes = [(found.z[rows], found.boxes[rows]) for _, rows in ranked]
    gone = suppressed(tubes, slices, nms_threshold)
    kept = [best_and_rows for best_and_rows, out in zip(ranked, gone, strict=True) if not out]
    return [_lesion(number, found, *chain) for number, chain in enumerate(kept, start=1)]


def _check_rules(iou: float, max_gap: float, min_slices: int, nms: float) -> None:
    if not 0 < iou <= 1:
        raise ValueError(f"iou_threshold must be in (0, 1], got {iou}")
    if not 0 <= max_gap < np.inf:
        raise ValueError(f"max_gap must be a distance >= 0 mm, got {max_gap}")
    if min_slices < 1:
        raise ValueError(f"min_slices must be at least 1, got {min_slices}")
    if not nms > 0:
        raise ValueError(f"nms_threshold must be > 0, got {nms}")


def _sorted_boxes(detections: Sequence[SliceDetections], least: float) -> _Boxes:
    """Check and flatten what was found; boxes below ``least`` are dropped."""
    numbers = [found.z for found in detections]
    if len(set(numbers)) != len(numbers):
        twice = min(z for z in numbers if numbers.count(z) > 1)
        raise ValueError(f"detections: slice {twice} is there twice; hand over each slice once")
    for each in detections:
        _check_slice(each)
    filled = [each for each in detections if len(each.boxes)]
    masked = {bool(each.masks) for each in filled}
    if len(masked) > 1:
        bare = next(each.z for each in filled if not each.masks)
        raise ValueError(f"detections: slice {bare} has no masks, others have; give all or none")
    z = np.repeat([each.z for each in filled], [len(each.boxes) for each in filled])
    boxes = np.concatenate([np.empty((0, 4)), *(each.boxes for each in filled)])
    scores = np.concatenate([np.empty(0), *(each.scores for each in filled)])
    masks = [mask for each in filled for mask in each.masks]
    order = np.lexsort((*boxes.T[::-1], -scores, z))
    found = _Boxes(z.astype(np.int64), boxes, scores, masks)
    return found.take(order[scores[order] >= least])


def _without_parts(found: _Boxes, threshold: float) -> _Boxes:
    """Drop boxes that lie in a better one of the same slice."""
    single = list(zip(found.z[:, None], found.boxes[:, None], strict=True))
    gone = suppressed(single, np.unique(found.z), threshold)
    return found.take(np.flatnonzero(~gone))


def _check_slice(found: SliceDetections) -> None:
    """Raise ValueError unless the detections of a slice fit together; the slice is named."""
    boxes, scores, where = np.asarray(found.boxes), np.asarray(found.scores), f"slice {found.z}"
    if found.z < 0 or found.z != int(found.z):
        raise ValueError(f"{where}: z must be an index >= 0")
    if len(boxes) != len(scores) or (len(boxes) and boxes.shape != (len(scores), 4)):
        raise ValueError(
            f"{where}: boxes must be (n, 4) and scores (n,), got {boxes.shape} and {scores.shape}"
        )
    if found.masks and len(found.masks) != len(boxes):
        raise ValueError(f"{where}: {len(found.masks)} masks for {len(boxes)} boxes")
    if not len(boxes):
        return
    if not ((scores >= 0) & (scores <= 1)).all():
        wrong = scores[~((scores >= 0) & (scores <= 1))][0]
        raise ValueError(f"{where}: scores must be in [0, 1], got {wrong}")
    right = np.isfinite(boxes).all(axis=1) & (boxes[:, :2] <= boxes[:, 2:]).all(axis=1)
    if not right.all():
        wrong = boxes[~right][0].tolist()
        raise ValueError(f"{where}: boxes must have x1 <= x2 and y1 <= y2, finite, got {wrong}")


def _chains(found: _Boxes, reach: int, iou_threshold: float) -> Ints:
    """``(n,)`` number of the chain of each box, in the order of their first boxes."""
    before = np.full(len(found.z), -1)
    used = np.zeros(len(found.z), bool)
    for upper, lower in _links(found, reach, iou_threshold).tolist():
        if not used[upper] and before[lower] < 0:
            used[upper] = True
            before[lower] = upper
    chain = np.zeros(len(found.z), np.int64)
    count = 0
    for index, upper in enumerate(before.tolist()):
        chain[index] = chain[upper] if upper >= 0 else count
        count += upper < 0
    return chain


def _links(found: _Boxes, reach: int, iou_threshold: float) -> Ints:
    """``(P, 2)`` upper and lower box of the pairs that may be linked, the best first."""
    slices, first, counts = np.unique(found.z, return_index=True, return_counts=True)
    below = first + counts
    end = np.searchsorted(found.z, slices + reach, side="right")
    others = np.concatenate(
        [np.empty(0, np.int64), *map(np.arange, below, np.maximum(end, below))]
    ).astype(np.int64)

    def overlap(by: str, upper: Ints, other: Ints) -> Floats:
        return paired_overlap(by, found.boxes[upper], found.boxes[others[other]])

    partners = np.maximum(end - below, 0)
    upper, other, shares = reaching_pairs(counts, partners, overlap, "iou", iou_threshold)
    lower = others[other]
    scores = found.scores[upper] + found.scores[lower]
    order = np.lexsort((lower, upper, -scores, -shares, found.z[lower] - found.z[upper]))
    return np.stack([upper, lower], axis=1)[order]


def _ranked(
    found: _Boxes, chain: Ints, min_slices: int, score_threshold: float
) -> list[tuple[int, Ints]]:
    """Best box and all boxes of each chain that is long and strong enough, the best chain first.

    The best box of a chain is that of the highest score, then the largest, then the uppermost.
    """
    if not len(chain):
        return []
    areas = (found.boxes[:, 2:] - found.boxes[:, :2] + PIXEL).prod(axis=1)
    by_quality = np.lexsort((found.z, -areas, -found.scores))
    quality = np.empty_like(by_quality)
    quality[by_quality] = np.arange(len(by_quality))
    by_chain = np.argsort(chain, kind="stable")
    starts = np.flatnonzero(np.diff(chain[by_chain], prepend=-1))
    best = by_quality[np.minimum.reduceat(quality[by_chain], starts)]
    lengths = np.diff(starts, append=len(chain))
    rank = np.lexsort((*found.boxes[best].T[::-1], found.z[best], -lengths, -found.scores[best]))
    able = (lengths >= min_slices) & (found.scores[best] >= score_threshold)
    return [
        (int(best[index]), by_chain[starts[index] : starts[index] + lengths[index]])
        for index in rank[able[rank]]
    ]


def _lesion(number: int, found: _Boxes, best: int, rows: Ints) -> Lesion:
    return Lesion(
        number=number,
        score=float(found.scores[best]),
        slices=found.z[rows],
        boxes=found.boxes[rows],
        scores=found.scores[rows],
        masks=tuple(found.masks[row] for row in rows) if found.masks else (),
        key_slice=int(found.z[best]),
    )
