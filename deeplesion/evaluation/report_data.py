"""Parts of what :func:`deeplesion.evaluation.html_report.write_report` takes, out of matches."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplesion.datasets.lesion_record import COARSE_TYPES
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.findings import RULE
from deeplesion.evaluation.froc import REPORT_FPS, curve_from_matches
from deeplesion.evaluation.gallery import Entry, build_gallery, entry_as_json
from deeplesion.evaluation.matching import Ints, Matches
from deeplesion.evaluation.outcomes import Method, best_overlaps, check_method, found_scores
from deeplesion.evaluation.strata import Stratum

#: Points of a curve that a page draws and its slider stops at.
CURVE_POINTS = 600


def curve_points(
    matches: Matches, fps: Sequence[float] = REPORT_FPS, limit: int = CURVE_POINTS
) -> dict[str, list[float]]:
    """Operating points of a curve, each exactly as the whole curve has it.

    Where there are more than ``limit`` scores, those points are kept that spread evenly over the
    plot, the ends, and the last ones within the numbers of false positives in ``fps``.

    Args:
        matches: Of a whole set.
        fps: False positives per image that tables give.
        limit: About how many points to keep.

    Returns:
        ``fps``, ``sensitivity`` (NaN without lesions) and ``thresholds``, by descending score;
        empty where there are no boxes. Boxes of equal score make one point.
    """
    curve = curve_from_matches(matches)
    count = len(curve.thresholds)
    if not count:
        return {"fps": [], "sensitivity": [], "thresholds": []}
    distinct = np.flatnonzero(np.append(curve.thresholds[1:] != curve.thresholds[:-1], True))
    x = curve.fps_per_image[distinct]
    low, high = min(fps) / 4, max(fps) * 2
    across = np.log2(np.clip(x, low, high) / low) / math.log2(high / low)
    place = across + np.nan_to_num(curve.sensitivity[distinct])
    spread: Ints = np.searchsorted(place, np.linspace(place[0], place[-1], limit))
    told = np.searchsorted(x, fps, side="right") - 1
    ends = np.array([0, len(distinct) - 1])
    kept = distinct[np.unique(np.concatenate([spread, told[told >= 0], ends]))]
    return {
        "fps": curve.fps_per_image[kept].tolist(),
        "sensitivity": curve.sensitivity[kept].tolist(),
        "thresholds": curve.thresholds[kept].tolist(),
    }


def lesion_rows(
    cases: Sequence[Case], methods: Sequence[Method], strata: Sequence[Stratum] = ()
) -> list[dict[str, Any]]:
    """Rows of the table of lesions.

    Args:
        cases: The key slices, m lesions in all.
        methods: The detectors.
        strata: Of :func:`deeplesion.evaluation.strata.strata_of`: the filters of the table.

    Returns:
        m rows of ``file``, ``lesion`` (its number in the key slice, from 1), ``type``,
        ``long_axis`` and ``interval`` (mm), ``strata`` (name by kind), ``found`` (by method the
        score from which on it is found, NaN if never) and ``overlap`` (by method the highest IoU
        with a box of any score).

    Raises:
        ValueError: If a method does not belong to the cases.
    """
    for method in methods:
        check_method(method, cases)
    rows: list[dict[str, Any]] = [
        {
            "file": case.file_name,
            "lesion": number + 1,
            "type": COARSE_TYPES[int(case.coarse_types[number])],
            "long_axis": float(case.long_axes[number]),
            "interval": case.slice_interval,
            "strata": {},
            "found": {},
            "overlap": {},
        }
        for case in cases
        for number in range(len(case.lesions))
    ]
    for stratum in strata:
        for index in np.flatnonzero(stratum.lesions).tolist():
            rows[index]["strata"][stratum.kind] = stratum.name
    for method in methods:
        scores = found_scores(method.matches).tolist()
        overlaps = np.round(best_overlaps(method, cases), 4).tolist()
        for row, score, overlap in zip(rows, scores, overlaps, strict=True):
            row["found"][method.name] = score
            row["overlap"][method.name] = overlap
    return rows


def gallery_data(
    cases: Sequence[Case],
    methods: Sequence[Method],
    image_root: str | os.PathLike[str] | None,
    count: int = 12,
) -> tuple[dict[str, Any], list[Entry]]:
    """The gallery as the page takes it, and its entries for files of their own.

    Args:
        cases: The key slices.
        methods: The detectors.
        image_root: Folder of the series folders; None where there are annotations only.
        count: At most so many misses, and so many false positives, of each method.

    Returns:
        ``gallery`` and ``gallery_note``, which says by which rule they were chosen and what was
        left out, and the entries.
    """
    entries, notes = build_gallery(cases, methods, image_root, count)
    rule = [RULE] if entries else []
    data = {
        "gallery": [entry_as_json(entry) for entry in entries],
        "gallery_note": " ".join([*rule, *notes]),
    }
    return data, entries
