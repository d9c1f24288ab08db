"""Reads what a detector predicted for the key slices of a split.

Two layouts of JSON are taken:

* ours, as :class:`deeplesion.evaluation.froc_metric.FROCMetric` writes it: ``{"meta": ...,
  "images": [{"file_name", "bboxes": [[x1, y1, x2, y2, score], ...]}, ...]}``;
* COCO's results: ``[{"image_id", "bbox": [x, y, w, h], "score", "category_id"}, ...]``, where
  ``x2 = x + w`` and ``image_id`` is the id of the ground truth in COCO's layout, or a file name.

File names match in any spelling (:func:`deeplesion.evaluation.cases.canonical_name`). What would
make a wrong number is refused; what is odd but has a meaning is counted and said in the notes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.cases import Case, canonical_name
from deeplesion.evaluation.matching import Floats
from deeplesion.evaluation.prediction_rows import ImageKey, Rows, coco_rows, our_rows

UnknownImages = Literal["error", "ignore"]


@dataclass(frozen=True)
class Predictions:
    """What a detector predicted.

    Attributes:
        name: Of the detector, for tables.
        detections: For each case, in their order, ``(n, 5)`` x1, y1, x2, y2 in px and score; boxes
            in the order of the file.
        notes: What a reader of the figures should know, a sentence each.
        path: The file.
        sha256: Of the file, hexadecimal.
        meta: What the file tells of itself: config, checkpoint, split, ...
    """

    name: str
    detections: list[Floats]
    notes: tuple[str, ...]
    path: str = ""
    sha256: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


def read_predictions(
    path: str | os.PathLike[str],
    cases: Sequence[Case],
    name: str | None = None,
    unknown_images: UnknownImages = "error",
) -> Predictions:
    """Read a file of predictions.

    Args:
        path: A JSON file of either layout.
        cases: The key slices of the split.
        name: Of the detector; None: that of the file, or of its folder where it is called
            ``predictions.json``.
        unknown_images: What to do with boxes of images that ``cases`` do not have: ``error``, or
            ``ignore`` them and say so in the notes.

    Returns:
        The predictions, in the order of ``cases``.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If the file is empty or cut, of neither layout, or has an image twice, an image
            that ``cases`` do not have, a box inside out, or a number that is none; it names the
            image and the box.
        ValueError: If ``unknown_images`` is none of its choices.
    """
    if unknown_images not in ("error", "ignore"):
        raise ValueError(f"unknown_images must be 'error' or 'ignore', got {unknown_images!r}")
    data = Path(path).read_bytes()
    content = _parse(data, path)
    rows = our_rows(content, path) if isinstance(content, dict) else coco_rows(content, path)
    indices = _indices(rows, cases, path)
    notes = list(rows.notes)
    if unknown := [key for key, index in indices.items() if index is None]:
        notes.append(_unknown_text(unknown, cases, path, unknown_images))
    detections = _gather(rows, indices, len(cases))
    return Predictions(
        name=name or _name_of(Path(path)),
        detections=detections,
        notes=(*notes, *_notes(detections, cases, listed=set(indices.values()))),
        path=os.fspath(path),
        sha256=hashlib.sha256(data).hexdigest(),
        meta=rows.meta,
    )


def _parse(data: bytes, path: str | os.PathLike[str]) -> Any:
    remedy = "write it anew, or copy it whole"
    if not data.strip():
        raise DataError(f"{path} is empty: {remedy}")
    try:
        content = json.loads(data)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno} (character {error.pos})"
        cut = " where the file ends: it was cut" if error.pos >= len(error.doc.rstrip()) else ""
        raise DataError(f"{path} is not JSON at {where}{cut}: {error.msg}; {remedy}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}; {remedy}") from None
    if not isinstance(content, dict | list):
        kind = type(content).__name__
        raise DataError(f"{path} must be a JSON object or list of predictions, got a {kind}")
    return content


def _indices(
    rows: Rows, cases: Sequence[Case], path: str | os.PathLike[str]
) -> dict[ImageKey, int | None]:
    """Index of the case of each image of the file; None for one that there is not."""
    by_name = {canonical_name(case.file_name): index for index, case in enumerate(cases)}
    by_id = {case.image_id: index for index, case in enumerate(cases) if case.image_id is not None}
    found: dict[ImageKey, int | None] = {}
    for key in rows.boxes:
        if isinstance(key, int) and not by_id:
            raise DataError(
                f"{path}: image_id {key} is a number, and the ground truth has none (DL_info.csv): "
                "write file names as image_id, or evaluate against the ground truth in COCO's JSON"
            )
        found[key] = by_id.get(key) if isinstance(key, int) else by_name.get(key)
    seen: dict[int, ImageKey] = {}
    for key, index in found.items():
        if index is not None and seen.setdefault(index, key) != key:
            raise DataError(
                f"{path} has image {cases[index].file_name} twice, as {seen[index]!r} and {key!r}: "
                "name each image in one way"
            )
    return found


def _unknown_text(
    unknown: Sequence[ImageKey],
    cases: Sequence[Case],
    path: str | os.PathLike[str],
    unknown_images: UnknownImages,
) -> str:
    text = (
        f"{len(unknown)} image(s) in {path} are not among the {len(cases)} of the split, "
        f"the first is {unknown[0]!r}"
    )
    if unknown_images == "error":
        raise DataError(
            f"{text}: is it the right split? Those all of whose lesions are possibly noisy are not "
            "part of it; unknown_images='ignore', or --ignore-unknown, leaves them out"
        )
    return f"{text}: left out."


def _gather(rows: Rows, indices: dict[ImageKey, int | None], count: int) -> list[Floats]:
    detections: list[Floats] = [np.empty((0, 5))] * count
    for key, index in indices.items():
        if index is not None:
            detections[index] = rows.boxes[key]
    return detections


def _notes(
    detections: Sequence[Floats], cases: Sequence[Case], listed: set[int | None]
) -> list[str]:
    notes = []
    absent = [case.file_name for index, case in enumerate(cases) if index not in listed]
    if absent:
        notes.append(
            f"{len(absent)} of {len(cases)} images have no predictions in the file, the first is "
            f"{absent[0]}: counted as images without boxes."
        )
    boxes = np.concatenate([np.empty((0, 5)), *detections])
    owner = np.repeat(np.arange(len(cases)), [len(rows) for rows in detections])
    outside = (boxes[:, 4] < 0) | (boxes[:, 4] > 1)
    flat = (boxes[:, :2] == boxes[:, 2:4]).any(axis=1)
    for wrong, what, effect in (
        (outside, "scores are outside [0, 1]", "their order counts, so they are taken as they are"),
        (flat, "boxes have no area (x1 = x2 or y1 = y2)", "counted as boxes one px wide or high"),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            place = f"{boxes[first].tolist()} in {cases[owner[first]].file_name}"
            notes.append(f"{int(wrong.sum())} {what}, the first is {place}: {effect}.")
    return notes


def _name_of(path: Path) -> str:
    return path.resolve().parent.name if path.stem == "predictions" else path.stem


def unique_names(predictions: Sequence[Predictions]) -> None:
    """Check that detectors can be told apart.

    Raises:
        ValueError: If two have the same name; it says how to name them.
    """
    counts = Counter(item.name for item in predictions)
    for name, count in counts.items():
        if count > 1:
            paths = ", ".join(item.path for item in predictions if item.name == name)
            raise ValueError(f"{count} predictions are named {name!r} ({paths}): name each its own")
