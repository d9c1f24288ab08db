"""FROC of 3D detections: against 3D boxes, and against lesions marked on one slice (P3D).

The rules are those of :mod:`deeplesion.evaluation.froc`, volume in the place of image; figures come
from its functions, given :data:`VOLUME_FPS`. Widths count both ends on all three axes.

* 3D boxes, by IoU or by IoBB >= 0.3: :func:`match_volumes`. K. Yan et al., "Learning from Multiple
  Datasets with Heterogeneous and Partial Labels for Universal Lesion Detection in CT", IEEE TMI
  2020.
* P3D, "pseudo 3D", for lesions of which one slice is marked: a 3D box that covers the slice is
  compared with the lesion in its plane, ``match_volumes(..., pseudo_3d=True)``.
* P3D of boxes followed over slices: that box is compared which lies on the lesion's slice, by
  IoU >= 0.5: :func:`match_tracklets`. J. Cai et al., "Lesion Harvester", IEEE TMI 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from deeplesion.evaluation.matching import (
    MISSED,
    Ints,
    Matches,
    flatten_pair,
    match_detections,
    match_flat,
)
from deeplesion.evaluation.overlaps import Floats, check_criterion, paired_overlap

#: False positives per volume at which sensitivity is reported, and over which the mean is taken.
VOLUME_FPS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_LOW_Z, _HIGH_Z = 2, 5
_IN_PLANE = [0, 1, 3, 4]


class Tracklet(NamedTuple):
    """A finding followed over slices.

    Attributes:
        boxes: x1, y1, x2, y2 in px by number of the slice.
        score: Of the whole.
    """

    boxes: Mapping[int, ArrayLike]
    score: float


def match_volumes(
    detections: Sequence[ArrayLike],
    ground_truths: Sequence[ArrayLike],
    criterion: str = "iobb",
    threshold: float = 0.3,
    *,
    one_to_one: bool = False,
    pseudo_3d: bool = False,
) -> Matches:
    """Find out which 3D boxes hit which lesions.

    Args:
        detections: For each volume ``(n, 7)``: x1, y1, z1, x2, y2, z2 in px and slices, and score.
            May be empty. A box that is inside out reaches nothing.
        ground_truths: For each volume ``(m, 6)``: x1, y1, z1, x2, y2, z2 of its lesions, z counted
            as in ``detections``. May be empty.
        criterion: One of :data:`deeplesion.evaluation.overlaps.CRITERIA`.
        threshold: Least overlap by it at which a box reaches a lesion.
        one_to_one: As in :func:`deeplesion.evaluation.matching.match_detections`.
        pseudo_3d: Whether lesions are marked on one slice (``z1 == z2``) and compared in its plane
            with the boxes that cover it (``z1 <= z <= z2``).

    Returns:
        The matches; what they call an image is a volume.

    Raises:
        ValueError: As :func:`deeplesion.evaluation.matching.match_detections`, naming the volume;
            with ``pseudo_3d`` if a lesion is on several slices.
    """
    check_criterion(criterion, threshold)
    boxes, box_counts, lesions, lesion_counts = flatten_pair(
        detections, ground_truths, axes=3, unit="volume"
    )
    if pseudo_3d:
        _check_one_slice(lesions, lesion_counts)

    def overlap(by: str, box: Ints, lesion: Ints) -> Floats:
        first, second = boxes[box, :6], lesions[lesion]
        if not pseudo_3d:
            return paired_overlap(by, first, second)
        z = second[:, _LOW_Z]
        covers = (first[:, _LOW_Z] <= z) & (z <= first[:, _HIGH_Z])
        return covers * paired_overlap(by, first[:, _IN_PLANE], second[:, _IN_PLANE])

    return match_flat(
        boxes[:, -1], box_counts, lesion_counts, overlap, criterion, threshold, one_to_one
    )


def match_tracklets(
    tracklets: Sequence[Sequence[Tracklet]],
    ground_truths: Sequence[ArrayLike],
    criterion: str = "iou",
    threshold: float = 0.5,
    *,
    one_to_one: bool = False,
) -> Matches:
    """Find out which tracklets hit which lesions, each by its box on the lesion's slice.

    Args:
        tracklets: Of each volume. May be empty.
        ground_truths: For each volume ``(m, 6)``: x1, y1, z, x2, y2, z of lesions that are marked
            on one slice each, z counted as in ``tracklets``. May be empty.
        criterion: One of :data:`deeplesion.evaluation.overlaps.CRITERIA`.
        threshold: Least overlap by it at which a box reaches a lesion; one that has no box on the
            lesion's slice does not reach it.
        one_to_one: As in :func:`deeplesion.evaluation.matching.match_detections`.

    Returns:
        The matches; what they call an image is a volume, and a box a tracklet.

    Raises:
        ValueError: As :func:`match_volumes`, or if a tracklet is none.
    """
    check_criterion(criterion, threshold)
    hulls, counts, lesions, lesion_counts = flatten_pair(
        [tracklet_boxes(there) for there in tracklets], ground_truths, axes=3, unit="volume"
    )
    _check_one_slice(lesions, lesion_counts)
    flat = [tracklet for there in tracklets for tracklet in there]
    lengths = [len(tracklet.boxes) for tracklet in flat]
    slices = np.array([z for tracklet in flat for z in tracklet.boxes], np.int64)
    rows = [np.asarray(box, np.float64) for tracklet in flat for box in tracklet.boxes.values()]
    start, span = (slices.min(), np.ptp(slices) + 1) if len(slices) else (0, 1)
    # One number for each tracklet and slice; the box sought is found by bisection.
    keys = np.repeat(np.arange(len(flat)), lengths) * span + slices - start
    order = np.argsort(keys)
    keys, boxes = keys[order], np.array(rows).reshape(-1, 4)[order]

    def overlap(by: str, tracklet: Ints, lesion: Ints) -> Floats:
        z = lesions[lesion, _LOW_Z].astype(np.int64) - start
        sought = tracklet * span + z
        place = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
        there = (keys[place] == sought) & (z >= 0) & (z < span)
        return there * paired_overlap(by, boxes[place], lesions[lesion][:, _IN_PLANE])

    return match_flat(
        hulls[:, -1], counts, lesion_counts, overlap, criterion, threshold, one_to_one
    )


def tracklet_boxes(tracklets: Sequence[Tracklet]) -> Floats:
    """The 3D boxes that enclose tracklets, as :func:`match_volumes` takes them.

    Args:
        tracklets: n of them.

    Returns:
        ``(n, 7)`` x1, y1, z1, x2, y2, z2, score.

    Raises:
        ValueError: If a tracklet has no boxes, or one that is not four numbers on a whole slice.
    """
    hulls = np.empty((len(tracklets), 7))
    for index, (boxes, score) in enumerate(tracklets):
        rows = [np.asarray(box, np.float64) for box in boxes.values()]
        slices = np.array(list(boxes))
        if not rows or any(row.shape != (4,) for row in rows) or slices.dtype.kind not in "iu":
            raise ValueError(
                f"tracklet {index} must have x1, y1, x2, y2 by number of the slice, one at least, "
                f"got {dict(boxes)}"
            )
        corners = np.array(rows)
        low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
        hulls[index] = [*low, slices.min(), *high, slices.max(), score]
    return hulls


def link_slices(
    boxes_by_slice: Mapping[int, ArrayLike], iou: float = 0.5, gap: int = 0
) -> list[Tracklet]:
    """Link the boxes of a volume's slices to tracklets by the overlap of neighbors.

    The rule: slices are taken in ascending order. On each, boxes are taken by descending score;
    each continues the tracklet, not yet continued on this slice, whose last box it overlaps most,
    if that is by an IoU of at least ``iou`` and at most ``gap`` slices lie between the two. Else it
    begins a tracklet. The score of a tracklet is the highest of its boxes.

    Args:
        boxes_by_slice: By number of the slice ``(n, 5)``: x1, y1, x2, y2 in px and score.
        iou: Least IoU, widths counted as ``x2 - x1 + 1``.
        gap: Slices without a box that a tracklet may leap over.

    Returns:
        Tracklets in the order in which they begin.

    Raises:
        ValueError: If an array has another shape, a box is inside out (the slice is named), ``iou``
            is not in (0, 1] or ``gap`` is below 0.
    """
    if gap < 0:
        raise ValueError(f"gap must be >= 0 slices, got {gap}")
    check_criterion("iou", iou, "iou")
    chains: list[dict[int, Floats]] = []
    for z in sorted(boxes_by_slice):
        rows = _checked_slice(z, boxes_by_slice[z])
        near = [chain for chain in chains if z - max(chain) <= gap + 1]
        ends = np.array([chain[max(chain)][:4] for chain in near]).reshape(-1, 4)
        matches = match_detections([rows], [ends], iou, one_to_one=True)
        begins = np.ones(len(rows), dtype=np.bool_)
        for chain, hit in zip(near, matches.first_hit.tolist(), strict=True):
            if hit != MISSED:
                box = matches.box[hit]
                chain[z], begins[box] = rows[box], False
        chains += [{z: row} for row in rows[begins]]
    return [
        Tracklet({z: row[:4] for z, row in chain.items()}, max(float(r[4]) for r in chain.values()))
        for chain in chains
    ]


def _checked_slice(z: int, boxes: ArrayLike) -> Floats:
    rows = np.asarray(boxes, np.float64)
    rows = rows if rows.size else np.zeros((0, 5))
    if rows.ndim != 2 or rows.shape[1] != 5:
        raise ValueError(f"boxes of slice {z} must be (n, 5), got {rows.shape}")
    wrong = ~np.isfinite(rows).all(axis=1) | (rows[:, 2:4] < rows[:, :2]).any(axis=1)
    if wrong.any():
        found: Any = rows[wrong][0].tolist()
        raise ValueError(
            f"box of slice {z} must be finite, with x1 <= x2 and y1 <= y2, got {found}"
        )
    return rows


def _check_one_slice(lesions: Floats, counts: Ints) -> None:
    z = lesions[:, _LOW_Z]
    wrong = np.flatnonzero((z != lesions[:, _HIGH_Z]) | (z != np.floor(z)))
    if wrong.size:
        volume = int(np.searchsorted(np.cumsum(counts), wrong[0], side="right"))
        raise ValueError(
            f"ground_truths of volume {volume}: lesion must lie on one slice, z1 = z2, got "
            f"{lesions[wrong[0]].tolist()}; P3D is for lesions marked on one slice, else compare 3D"
        )
