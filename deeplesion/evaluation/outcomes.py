"""What became of each box and each lesion, out of the matches of a whole set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.matching import MISSED, Floats, Matches
from deeplesion.evaluation.overlaps import paired_iou

HIT = "hit"
DUPLICATE = "duplicate"
FALSE_POSITIVE = "false positive"


class Method(NamedTuple):
    """One detector on one split.

    Attributes:
        name: Of the detector.
        detections: For each case ``(n, 5)`` x1, y1, x2, y2 in px and score.
        matches: Of ``detections`` and the lesions of the cases, by any protocol.
    """

    name: str
    detections: Sequence[Floats]
    matches: Matches


def check_method(method: Method, cases: Sequence[Case]) -> None:
    """Check that a method belongs to cases.

    Raises:
        ValueError: If numbers of images, lesions or boxes differ; it says which.
    """
    matches = method.matches
    for what, found, wanted in (
        ("detections", len(method.detections), len(cases)),
        ("images in matches", matches.num_images, len(cases)),
        ("lesions in matches", len(matches.first_hit), sum(len(case.lesions) for case in cases)),
        ("boxes in matches", len(matches.scores), sum(map(len, method.detections))),
    ):
        if found != wanted:
            raise ValueError(f"{method.name}: {what} must be {wanted}, as in cases, got {found}")


def found_scores(matches: Matches) -> Floats:
    """Score from which on each lesion is found.

    Args:
        matches: m lesions.

    Returns:
        ``(m,)``, NaN for a lesion that no box reaches.
    """
    hit = matches.first_hit != MISSED
    scores = np.full(len(hit), np.nan)
    scores[hit] = matches.scores[matches.first_hit[hit]]
    return scores


def box_kinds(method: Method) -> list[list[str]]:
    """What became of the boxes of each image.

    Whether a box is a hit, a duplicate or a false positive does not change with the threshold, for
    boxes of lower score take nothing from it.

    Args:
        method: A method.

    Returns:
        For each image a list of ``hit``, ``duplicate`` (it reaches only lesions hit before) or
        ``false positive``, in the order of its boxes.
    """
    matches = method.matches
    kinds = np.where(matches.false_positive, FALSE_POSITIVE, DUPLICATE)
    kinds[matches.first_hit[matches.first_hit != MISSED]] = HIT
    counts = np.array([len(rows) for rows in method.detections], np.int64)
    given = np.empty_like(kinds)
    given[(np.cumsum(counts) - counts)[matches.image] + matches.box] = kinds
    ends = np.cumsum(counts)
    return [given[end - count : end].tolist() for end, count in zip(ends, counts, strict=True)]


def best_overlaps(method: Method, cases: Sequence[Case]) -> Floats:
    """Highest IoU of each lesion with any box of its image, whatever the score.

    Args:
        method: A method.
        cases: Its cases, m lesions in all.

    Returns:
        ``(m,)`` in [0, 1], widths counted as ``x2 - x1 + 1``; 0 where the image has no boxes.
    """
    best = [np.empty(0)]
    for case, rows in zip(cases, method.detections, strict=True):
        count = len(case.lesions)
        overlaps = paired_iou(
            np.tile(rows[:, :4], (count, 1)), np.repeat(case.lesions, len(rows), 0)
        )
        best.append(overlaps.reshape(count, len(rows)).max(axis=1, initial=0.0))
    return np.concatenate(best)
