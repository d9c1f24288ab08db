"""Boxes by image out of the two layouts of prediction files, every row checked."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.cases import canonical_name
from deeplesion.evaluation.matching import Floats

#: A file name as ``DL_info.csv`` spells it, or the number of an image.
ImageKey = str | int
_NUMBERS = frozenset({int, float})


@dataclass(frozen=True)
class Rows:
    """What a file holds.

    Attributes:
        boxes: By image ``(n, 5)`` x1, y1, x2, y2 in px and score, all finite, ``x1 <= x2`` and
            ``y1 <= y2``.
        meta: What the file tells of itself.
        notes: What a reader should know.
    """

    boxes: dict[ImageKey, Floats]
    meta: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def our_rows(content: dict[str, Any], source: str | os.PathLike[str]) -> Rows:
    """Rows of our own layout.

    Args:
        content: The file's.
        source: The file, for errors.

    Raises:
        DataError: If it is not of that layout, an image is there twice or a box is malformed.
    """
    entries, meta = content.get("images"), content.get("meta", {})
    if not isinstance(entries, list) or not isinstance(meta, dict):
        keys = ", ".join(map(repr, content)) or "nothing"
        raise DataError(
            f'{source} must be {{"meta": {{...}}, "images": [...]}} as FROCMetric writes it, or a '
            f"list of COCO results, got an object of {keys}"
        )
    boxes: dict[ImageKey, Floats] = {}
    first: dict[ImageKey, int] = {}
    for number, entry in enumerate(entries):
        where = f"{source}: entry {number} of images"
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("bboxes"), list):
            raise DataError(
                f"{where} must have file_name and a list of bboxes, got {_short(entry)}"
            )
        key = canonical_name(name)
        if first.setdefault(key, number) != number:
            raise DataError(
                f"{where} is image {key}, as is entry {first[key]}: keep one of the two"
            )
        boxes[key] = _checked(entry["bboxes"], f"{source}: image {key}")
    return Rows(boxes, meta)


def coco_rows(content: list[Any], source: str | os.PathLike[str]) -> Rows:
    """Rows of COCO results; all categories count as lesions.

    Args:
        content: The file's.
        source: The file, for errors.

    Raises:
        DataError: If it is not of that layout or a box is malformed.
    """
    gathered: dict[ImageKey, list[list[float]]] = {}
    categories: Counter[Any] = Counter()
    for number, entry in enumerate(content):
        where = f"{source}: entry {number}"
        box, score, key = _coco_entry(entry, where)
        row = _corners(box, score, where)
        gathered.setdefault(canonical_name(key) if isinstance(key, str) else key, []).append(row)
        categories[repr(entry.get("category_id"))] += 1
    notes: tuple[str, ...] = ()
    if len(categories) > 1:
        notes = (f"category_id takes the values {', '.join(categories)}: all count as lesions.",)
    boxes = {key: _checked(rows, f"{source}: image {key}") for key, rows in gathered.items()}
    return Rows(boxes, notes=notes)


def _coco_entry(entry: Any, where: str) -> tuple[Any, Any, ImageKey]:
    if not isinstance(entry, dict) or not {"image_id", "bbox", "score"} <= entry.keys():
        raise DataError(f"{where} must have image_id, bbox and score, got {_short(entry)}")
    key = entry["image_id"]
    if type(key) not in (str, int):
        raise DataError(f"{where}: image_id must be a whole number or file name, got {key!r}")
    return entry["bbox"], entry["score"], key


def _corners(box: Any, score: Any, where: str) -> list[float]:
    if not (isinstance(box, list) and len(box) == 4 and _NUMBERS.issuperset(map(type, box))):
        raise DataError(f"{where}: bbox must be 4 numbers x, y, w, h in px, got {_short(box)}")
    x, y, w, h = box
    if w < 0 or h < 0:
        raise DataError(f"{where}: bbox must have w >= 0 and h >= 0 px, got {box}: is it corners?")
    return [x, y, x + w, y + h, score]


def _checked(rows: list[Any], where: str) -> Floats:
    """``(n, 5)``, or DataError naming the box."""
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 5:
            text = "must be 5 numbers x1, y1, x2, y2 in px and score"
            raise DataError(f"{where}, box {number}: {text}, got {_short(row)}")
    if not _NUMBERS.issuperset(map(type, chain.from_iterable(rows))):
        number = next(n for n, row in enumerate(rows) if not _NUMBERS.issuperset(map(type, row)))
        raise DataError(f"{where}, box {number}: must be numbers, got {_short(rows[number])}")
    array = np.array(rows, np.float64).reshape(-1, 5)
    finite = np.isfinite(array)
    for wrong, complaint in (
        (~finite[:, 4], "score must be finite (a NaN has no place in an order)"),
        (~finite[:, :4].all(axis=1), "corners must be finite"),
        ((array[:, 2:4] < array[:, :2]).any(axis=1), "must have x1 <= x2 and y1 <= y2"),
    ):
        if wrong.any():
            number = int(np.argmax(wrong))
            raise DataError(f"{where}, box {number}: {complaint}, got {array[number].tolist()}")
    return array


def _short(value: Any, length: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."
