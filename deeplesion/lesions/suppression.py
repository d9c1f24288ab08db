"""Non-maximum suppression of lesions in 3D.

What two lesions have in common is counted slice by slice: the sum over slices of what their boxes
there share. Between the slices in which a lesion has boxes, its box is interpolated. Unlike the 3D
boxes about whole lesions, this does not make two lesions overlap that lie beside each other and
run obliquely through the slices.

The measure is the *intersection over the smaller* of the two, not over the union: what has to go
are pieces of a lesion that linking left over, and boxes about a part of it, which are much smaller
than the lesion, so that their IoU with it is low however wholly they lie in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeplesion.evaluation.overlaps import PIXEL, Floats, Ints, paired_overlap, reaching_pairs

Tube = tuple[Ints, Floats]  #: slices (k,), ascending, and boxes (k, 4)
_ANY = float(np.finfo(np.float64).tiny)


def suppressed(tubes: Sequence[Tube], slices: Ints, threshold: float) -> NDArray[np.bool_]:
    """Which lesions lie in better ones.

    Args:
        tubes: Of each lesion its slices and boxes; the best lesion first.
        slices: ``(s,)`` all key slices, ascending.
        threshold: Share of the smaller of two lesions that must lie in the other for the later to
            go. One that went makes no other go.

    Returns:
        ``(len(tubes),)`` bool.
    """
    gone = np.zeros(len(tubes), bool)
    first, second, shares = tube_overlaps(tubes, slices)
    close = shares >= threshold
    for better, worse in zip(first[close].tolist(), second[close].tolist(), strict=True):
        # Pairs are in the order of the better one, so that its own fate is known.
        gone[worse] |= not gone[better]
    return gone


def tube_overlaps(tubes: Sequence[Tube], slices: Ints) -> tuple[Ints, Ints, Floats]:
    """Pairs of lesions that overlap: intersection over the smaller.

    Args:
        tubes: Of each lesion its slices and boxes.
        slices: ``(s,)`` all key slices, ascending.

    Returns:
        Indices ``(P,)`` of the first and of the second of each pair, ascending, first < second,
        and their overlap ``(P,)`` in (0, 1].
    """
    owner, place, boxes = _without_gaps(tubes, slices)
    # Within a slice rows are in the order of their lesions, so that first < second says the same.
    order = np.lexsort((owner, place))
    owner, boxes = owner[order], boxes[order]
    counts = np.bincount(place, minlength=len(slices))
    areas = (boxes[:, 2:] - boxes[:, :2] + PIXEL).prod(axis=1)

    def overlap(by: str, first: Ints, second: Ints) -> Floats:
        return (first < second) * paired_overlap(by, boxes[first], boxes[second])

    first, second, shares = reaching_pairs(counts, counts, overlap, "iobb", _ANY)
    pairs, inverse = np.unique(owner[first] * len(tubes) + owner[second], return_inverse=True)
    common = np.bincount(inverse, weights=shares * areas[first], minlength=len(pairs))
    sizes = np.bincount(owner, weights=areas, minlength=len(tubes))
    better, worse = np.divmod(pairs, max(len(tubes), 1))
    return better, worse, common / np.minimum(sizes[better], sizes[worse])


def _without_gaps(tubes: Sequence[Tube], slices: Ints) -> tuple[Ints, Ints, Floats]:
    """Lesion, place among the key slices and box of every box and of those between them."""
    owner = np.repeat(np.arange(len(tubes)), [len(z) for z, _ in tubes])
    z = np.concatenate([np.empty(0, np.int64), *(z for z, _ in tubes)])
    boxes = np.concatenate([np.empty((0, 4)), *(boxes for _, boxes in tubes)])
    place = np.searchsorted(slices, z)
    missing = np.where(np.diff(owner) == 0, np.diff(place) - 1, 0)
    upper = np.repeat(np.arange(len(missing)), missing)
    nth = np.arange(len(upper)) - np.repeat(np.cumsum(missing) - missing, missing)
    between = place[upper] + 1 + nth
    share = (slices[between] - z[upper]) / (z[upper + 1] - z[upper])
    filled = boxes[upper] + share[:, None] * (boxes[upper + 1] - boxes[upper])
    return (
        np.concatenate([owner, owner[upper]]),
        np.concatenate([place, between]),
        np.concatenate([boxes, filled]),
    )
