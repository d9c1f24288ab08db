"""Pictures of the findings of :mod:`deeplesion.evaluation.findings`.

A picture is a crop of the key slice around the finding, in its window, with the slices above and
below it where they are stored. Boxes stay apart from it as data, so that a page can show and hide
them; :func:`draw_entry` draws them in. Nothing of the patient is told beyond the name of the file.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.canvas import Image, Item, draw_items, draw_recist, legend
from deeplesion.datasets.ct import SliceError, read_slice, window_to_uint8
from deeplesion.datasets.dl_info import key_slice_path
from deeplesion.datasets.lesion_record import COARSE_TYPES
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.findings import (
    MISS,
    Crop,
    Finding,
    crop_around,
    top_false_positives,
    worst_misses,
)
from deeplesion.evaluation.matching import Floats, Ints
from deeplesion.evaluation.outcomes import Method, box_kinds, found_scores

#: Least side in px of a picture drawn to a file, and px between pictures.
DRAWN_SIDE = 384
GAP = 4

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A finding with its pictures and all that is drawn on them.

    Attributes:
        finding: What it is about.
        case: Its key slice.
        crop: Part of the slice that the pictures show.
        planes: By distance from the key slice, -1, 0 and 1, the picture; None: not stored.
        lesions: ``(k,)`` index of those lesions of the case that touch the crop.
        found: By method ``(k,)`` score from which on they are found, NaN if never.
        boxes: By method ``(n, 5)`` those boxes of the key slice that touch the crop.
        kinds: By method, what became of these, see :func:`box_kinds`.
    """

    finding: Finding
    case: Case
    crop: Crop
    planes: dict[int, Gray | None]
    lesions: Ints
    found: dict[str, Floats]
    boxes: dict[str, Floats]
    kinds: dict[str, list[str]]


class _Outcomes:
    """What became of boxes and lesions, by method and case."""

    def __init__(self, cases: Sequence[Case], methods: Sequence[Method]) -> None:
        ends = np.cumsum([len(case.lesions) for case in cases], dtype=np.int64)
        self.methods = methods
        self.kinds = {method.name: box_kinds(method) for method in methods}
        self.found = {
            method.name: np.split(found_scores(method.matches), ends[:-1]) for method in methods
        }

    def entry(
        self, finding: Finding, case: Case, crop: Crop, planes: dict[int, Gray | None]
    ) -> Entry:
        """The entry of a finding."""
        index, lesions = finding.case, np.flatnonzero(_touching(case.lesions, crop))
        inside = {
            m.name: np.flatnonzero(_touching(m.detections[index], crop)) for m in self.methods
        }
        return Entry(
            finding,
            case,
            crop,
            planes,
            lesions,
            found={name: found[index][lesions] for name, found in self.found.items()},
            boxes={m.name: m.detections[index][inside[m.name]] for m in self.methods},
            kinds={
                name: [kinds[index][box] for box in inside[name]]
                for name, kinds in self.kinds.items()
            },
        )


def build_gallery(
    cases: Sequence[Case],
    methods: Sequence[Method],
    image_root: str | os.PathLike[str] | None,
    count: int = 12,
) -> tuple[list[Entry], list[str]]:
    """Entries for the worst misses and strongest false positives of each method.

    Args:
        cases: The key slices.
        methods: The detectors; on each picture the boxes of all of them can be shown.
        image_root: Folder of the series folders; None where there are annotations only.
        count: At most so many misses, and so many false positives, of each method.

    Returns:
        The entries, and notes on what was left out: all of them without ``image_root``, and those
        whose key slice is not stored or cannot be read.
    """
    if image_root is None:
        return [], ["There is no gallery: the slices are not stored, only annotations are."]
    outcomes = _Outcomes(cases, methods)
    entries, complaints = [], []
    for method in methods:
        findings = worst_misses(cases, method, count) + top_false_positives(cases, method, count)
        for finding in findings:
            case = cases[finding.case]
            try:
                crop, planes = read_planes(image_root, case, finding.box)
            except SliceError as error:
                complaints.append(str(error))
            else:
                entries.append(outcomes.entry(finding, case, crop, planes))
    if not complaints:
        return entries, []
    return entries, [
        f"{len(complaints)} pictures are left out of the gallery, the first for: {complaints[0]}."
    ]


def read_planes(
    image_root: str | os.PathLike[str], case: Case, box: Floats
) -> tuple[Crop, dict[int, Gray | None]]:
    """Read the key slice and its two neighbors, windowed and cropped around a box.

    Args:
        image_root: Folder of the series folders.
        case: The key slice.
        box: ``(4,)`` x1, y1, x2, y2 in px.

    Returns:
        The crop, and by distance from the key slice, -1, 0 and 1, the picture; None for a neighbor
        that is not stored or cannot be read.

    Raises:
        SliceError: If the key slice is missing or cannot be read.
    """
    key = read_slice(key_slice_path(image_root, case.series, case.key_slice))
    size = (key.shape[0], key.shape[1])
    crop = x1, y1, x2, y2 = crop_around(box, size)
    planes: dict[int, Gray | None] = {}
    for step in (-1, 0, 1):
        path = key_slice_path(image_root, case.series, case.key_slice + step)
        try:
            plane = read_slice(path, size) if step else key
        except SliceError:
            planes[step] = None
        else:
            planes[step] = window_to_uint8(plane[y1:y2, x1:x2], case.window)
    return crop, planes


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """An entry as :func:`deeplesion.evaluation.html_report.write_report` takes it.

    Pictures become PNG in data URIs; corners are in px of the slice, to 0.01 px.
    """
    finding, case = entry.finding, entry.case
    mine = finding.lesion if finding.lesion >= 0 else None
    return {
        "kind": finding.kind,
        "method": finding.method,
        "file": case.file_name,
        "score": _or_none(finding.score),
        "overlap": round(finding.overlap, 4),
        "type": "" if mine is None else COARSE_TYPES[int(case.coarse_types[mine])],
        "long_axis": None if mine is None else _or_none(case.long_axes[mine]),
        "interval": _or_none(case.slice_interval),
        "window": list(case.window),
        "target": _rounded(finding.box),
        "crop": list(entry.crop),
        "planes": [
            {"slice": case.key_slice + step, "picture": None if gray is None else data_uri(gray)}
            for step, gray in sorted(entry.planes.items())
        ],
        "lesions": [
            {
                "box": _rounded(case.lesions[lesion]),
                "recist": _recist(case, lesion),
                "target": lesion == mine,
                "found": {name: _or_none(found[row]) for name, found in entry.found.items()},
            }
            for row, lesion in enumerate(entry.lesions.tolist())
        ],
        "boxes": {
            name: [
                {"box": _rounded(row[:4]), "score": float(row[4]), "kind": kind}
                for row, kind in zip(rows, entry.kinds[name], strict=True)
            ]
            for name, rows in entry.boxes.items()
        },
    }


def draw_entry(entry: Entry, threshold: float) -> Image:
    """An entry as one picture: the slice above, the key slice with its boxes, the slice below.

    Args:
        entry: The entry.
        threshold: Boxes of lower score are left out, but for that of the finding itself.

    Returns:
        ``(h, w, 3)`` RGB; neighbors that are not stored are left out.
    """
    finding, case = entry.finding, entry.case
    low = threshold if math.isnan(finding.score) else min(threshold, finding.score)
    rows, kinds = entry.boxes[finding.method], entry.kinds[finding.method]
    offset = np.array([*entry.crop[:2], *entry.crop[:2]], np.float64)
    items = [
        Item(kind, row[:4] - offset, f"{row[4]:.2f}")
        for row, kind in zip(rows, kinds, strict=True)
        if row[4] >= low
    ]
    found = entry.found[finding.method] >= low
    for lesion, is_found in zip(entry.lesions, found, strict=True):
        kind = "lesion found" if is_found else "lesion missed"
        items.append(Item(kind, case.lesions[lesion] - offset))
    pictures: list[Image] = []
    for step, gray in sorted(entry.planes.items()):
        if gray is not None:
            scale = math.ceil(DRAWN_SIDE / max(gray.shape))
            picture = _enlarged(gray, scale)
            if step == 0:
                recists = case.recists[entry.lesions]
                known = np.isfinite(recists).all(axis=(1, 2))
                draw_recist(picture, recists[known] - offset[:2], scale)
                draw_items(picture, items, scale)
            pictures += [np.zeros((len(picture), GAP, 3), np.uint8)] * bool(pictures) + [picture]
    sheet: Image = np.concatenate(pictures, axis=1)
    return np.concatenate([sheet, legend([i.kind for i in items], _caption(entry), sheet.shape[1])])


def data_uri(gray: Gray) -> str:
    """A gray picture ``(h, w)`` as PNG in a data URI."""
    written, data = cv2.imencode(".png", gray, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not written:
        raise OSError(f"cannot encode a picture of {gray.shape} px as PNG")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _caption(entry: Entry) -> str:
    finding = entry.finding
    parts = [entry.case.file_name]
    if finding.kind == MISS:
        reached = "never reached" if math.isnan(finding.score) else f"found at {finding.score:.3f}"
        parts += [reached, f"best overlap {finding.overlap:.2f}"]
    else:
        parts += [f"false positive at {finding.score:.3f}", f"overlap {finding.overlap:.2f}"]
    return "   ".join(parts)


def _enlarged(gray: Gray, scale: int) -> Image:
    size = (gray.shape[1] * scale, gray.shape[0] * scale)
    return cv2.cvtColor(cv2.resize(gray, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)


def _touching(boxes: Floats, crop: Crop) -> NDArray[np.bool_]:
    """Which boxes have a pixel in a crop."""
    x1, y1, x2, y2 = crop
    return (boxes[:, 0] < x2) & (boxes[:, 2] >= x1) & (boxes[:, 1] < y2) & (boxes[:, 3] >= y1)


def _recist(case: Case, lesion: int) -> list[Any] | None:
    ends = case.recists[lesion]
    return _rounded(ends) if np.isfinite(ends).all() else None


def _rounded(values: Floats) -> list[Any]:
    rounded: list[Any] = np.round(values, 2).tolist()
    return rounded


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
