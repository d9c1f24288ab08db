"""The findings worth looking at: the worst misses and the strongest false alarms.

*Misses* are ordered so that the most telling come first: lesions that no box reaches before those
found only at a low score, the lower the worse; of equal ones the larger long axis first, for a
large lesion is harder to excuse. Where the long axis is unknown, the longer side of the box counts.
*False positives* are the boxes of highest score that reach no lesion, one for each key slice, lest
one odd structure fill the gallery.

Their pictures are made by :mod:`deeplesion.evaluation.gallery`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.matching import Floats
from deeplesion.evaluation.outcomes import (
    Method,
    best_overlaps,
    found_scores,
)

#: The same for the reader of a report.
RULE = (
    "Misses: first the lesions that no box reaches, then those found only at a low score; of equal "
    "ones the larger first. False positives: those of highest score, at most one per key slice."
)
MISS = "miss"
FALSE_ALARM = "false positive"
#: Side of a crop: so many sides of the box, but at least this part of the slice.
MARGIN_FACTOR = 3.0
LEAST_PART = 1 / 3

Crop = tuple[int, int, int, int]  #: x1, y1, x2, y2 in px, the last two behind the end


@dataclass(frozen=True)
class Finding:
    """A lesion that was missed or a box that was a false positive.

    Attributes:
        kind: ``miss`` or ``false positive``.
        method: The detector's name.
        case: Index of the case.
        box: ``(4,)`` x1, y1, x2, y2 in px of the lesion or the false positive.
        score: From which on the lesion is found, NaN if never; or of the false positive.
        overlap: Highest IoU of the lesion with a box, or of the false positive with a lesion.
        lesion: Index of the lesion in its case; -1 for a false positive.
    """

    kind: str
    method: str
    case: int
    box: Floats
    score: float
    overlap: float
    lesion: int = -1


def worst_misses(cases: Sequence[Case], method: Method, count: int = 12) -> list[Finding]:
    """The worst misses, in the order that the module's text tells.

    Args:
        cases: The key slices.
        method: The detector.
        count: At most so many.
    """
    scores = found_scores(method.matches)
    overlaps = best_overlaps(method, cases)
    sizes = np.concatenate([np.empty(0), *map(_sizes, cases)])
    worst = np.lexsort([-sizes, np.nan_to_num(scores, nan=-math.inf)])[:count]
    image = method.matches.lesion_image
    first = np.searchsorted(image, np.arange(len(cases)))
    return [
        Finding(
            kind=MISS,
            method=method.name,
            case=int(image[index]),
            box=cases[image[index]].lesions[index - first[image[index]]],
            score=float(scores[index]),
            overlap=float(overlaps[index]),
            lesion=int(index - first[image[index]]),
        )
        for index in worst.tolist()
    ]


def top_false_positives(cases: Sequence[Case], method: Method, count: int = 12) -> list[Finding]:
    """The false positives of highest score, one for each key slice.

    Args:
        cases: The key slices.
        method: The detector.
        count: At most so many.
    """
    matches = method.matches
    ranks = np.flatnonzero(matches.false_positive)
    _, first = np.unique(matches.image[ranks], return_index=True)
    findings = []
    for rank in ranks[np.sort(first)[:count]].tolist():
        index = int(matches.image[rank])
        row = method.detections[index][matches.box[rank]]
        alone = Method(method.name, [row[None]], matches)
        overlap = best_overlaps(alone, [cases[index]]).max(initial=0.0)
        findings.append(
            Finding(FALSE_ALARM, method.name, index, row[:4], float(row[4]), float(overlap))
        )
    return findings


def crop_around(box: Floats, size: tuple[int, int]) -> Crop:
    """A square around a box, moved into the slice.

    Args:
        box: ``(4,)`` x1, y1, x2, y2 in px.
        size: ``(height, width)`` of the slice in px.
    """
    longer = max(box[2] - box[0], box[3] - box[1]) + 1
    wanted = math.ceil(max(MARGIN_FACTOR * longer, LEAST_PART * max(size)))
    spans = []
    for start, end, limit in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        side = min(wanted, limit)
        low = min(max(round((start + end + 1 - side) / 2), 0), limit - side)
        spans.append((low, low + side))
    (x1, x2), (y1, y2) = spans
    return x1, y1, x2, y2


def _sizes(case: Case) -> Floats:
    """Long axis of each lesion, or what comes near to it, in mm."""
    sides = (case.lesions[:, 2:] - case.lesions[:, :2]).max(axis=1, initial=0.0)
    known = case.spacing if math.isfinite(case.spacing) else 1.0
    return np.where(np.isnan(case.long_axes), sides * known, case.long_axes)
