"""Reads the ground truth of a split from any of the files that it comes in.

Besides ``DL_info.csv`` and files of key slices in JSON (:mod:`deeplesion.datasets.info_files`) it
is taken in COCO's layout as published with MVP-Net: ``images`` with ``slice_intv``, ``spacing``,
``z_position`` and ``windows``, and ``annotations`` with boxes x, y, w, h, 0-based. There
``x2 = x + w``, which agrees with ``DL_info.csv``, and boxes are clipped to their image as those of
``DL_info.csv`` are.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.datasets.dl_info import read_dl_info
from deeplesion.datasets.info_files import DEFAULT_WINDOW_HU, read_infos, read_json
from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.cases import (
    Case,
    canonical_name,
    cases_of_infos,
    cases_of_records,
    in_order,
    patient_of,
)
from deeplesion.evaluation.matching import Floats

_SLICE = re.compile(r"(?:.*[/\\])?([^/\\]+)[/\\_](\d+)(?:\.\w+)?")


def read_cases(
    path: str | os.PathLike[str], split: str | None = None, keep_noisy: bool = False
) -> list[Case]:
    """Read the ground truth of a split.

    Args:
        path: ``DL_info.csv``, a file of key slices in JSON, or ground truth in COCO's layout.
        split: ``train``, ``val``, ``test``, or None for all. A COCO file is one split as it is.
        keep_noisy: Whether lesions marked as possibly noisy stay.

    Returns:
        Cases by file name.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If it is malformed, or has no key slice of that split; it says where.
        ValueError: If ``split`` is unknown.
    """
    if Path(path).suffix != ".json":
        cases = cases_of_records(read_dl_info(path, keep_noisy), split, keep_noisy)
    else:
        content = read_json(path)
        if isinstance(content, dict) and "annotations" in content:
            cases = cases_of_coco(content, os.fspath(path), keep_noisy)
        else:
            cases = cases_of_infos(read_infos(path, split))
    if not cases:
        raise DataError(f"{path} has no key slice of split {split!r}: name another split or file")
    return cases


def cases_of_coco(content: dict[str, Any], source: str, keep_noisy: bool = False) -> list[Case]:
    """Cases of a ground truth in COCO's layout.

    Args:
        content: ``images`` and ``annotations``, as the JSON file has them.
        source: The file, for errors.
        keep_noisy: Whether boxes with ``"noisy": 1`` stay. An image all of whose boxes go, goes;
            one that never had any stays.

    Returns:
        Cases by file name; axes, RECIST, type, sex and age are unknown.

    Raises:
        DataError: If an entry is malformed, an id or file name is there twice, or a box belongs to
            no image.
    """
    images = _images(_list(content, "images", source), source)
    boxes: dict[int, list[list[float]]] = {key: [] for key in images}
    noisy = set()
    for number, entry in enumerate(_list(content, "annotations", source)):
        where = f"{source}: entry {number} of annotations"
        box = _box(entry, where)
        if entry["image_id"] not in images:
            raise DataError(f"{where} has image_id {entry['image_id']!r}, of which there is none")
        if entry.get("noisy", 0) and not keep_noisy:
            noisy.add(entry["image_id"])
        else:
            boxes[entry["image_id"]].append(box)
    kept = (key for key in images if boxes[key] or key not in noisy)
    return in_order(_case(images[key], boxes[key], source) for key in kept)


def _images(entries: list[Any], source: str) -> dict[int, dict[str, Any]]:
    images: dict[int, dict[str, Any]] = {}
    for number, image in enumerate(entries):
        where = f"{source}: entry {number} of images"
        if not isinstance(image, dict) or type(image.get("id")) is not int:
            raise DataError(f"{where} must have a whole number as id, got {image!r}")
        if image["id"] in images:
            raise DataError(f"{where} has the id {image['id']} of another entry: give it its own")
        images[image["id"]] = image
    return images


def _case(image: dict[str, Any], boxes: list[list[float]], source: str) -> Case:
    name = image.get("file_name")
    match = _SLICE.fullmatch(canonical_name(name)) if isinstance(name, str) else None
    if not isinstance(name, str) or match is None:
        raise DataError(
            f"{source}: image {image['id']} must have a file_name like 000001_01_01/109.png, "
            f"got {name!r}"
        )
    where = f"{source}: image {name}"
    interval, spacing, height = (
        _number(image, key, where) for key in ("slice_intv", "spacing", "z_position")
    )
    count = len(boxes)
    return Case(
        file_name=canonical_name(name),
        patient=patient_of(match[1]),
        slice_interval=interval,
        lesions=_clipped(boxes, image, where),
        long_axes=np.full(count, math.nan),
        short_axes=np.full(count, math.nan),
        coarse_types=np.full(count, -1, np.int64),
        heights=np.full(count, height),
        recists=np.full((count, 4, 2), math.nan),
        gender="",
        age=math.nan,
        spacing=spacing,
        window=_window(image, where),
        key_slice=int(match[2]),
        series=match[1],
        image_id=image["id"],
    )


def _box(entry: Any, where: str) -> list[float]:
    box = entry.get("bbox") if isinstance(entry, dict) and "image_id" in entry else None
    numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
    if not isinstance(box, list) or not numbers or box[2] <= 0 or box[3] <= 0:
        raise DataError(f"{where} must have image_id and bbox [x, y, w > 0, h > 0], got {entry!r}")
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def _clipped(boxes: list[list[float]], image: dict[str, Any], where: str) -> Floats:
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    size = [_number(image, key, where) for key in ("width", "height")]
    last = np.where(np.isnan(size), math.inf, np.array(size) - 1)
    clipped = np.clip(corners, 0, np.tile(last, 2))
    if (clipped[:, :2] >= clipped[:, 2:]).any():
        raise DataError(f"{where} has a box outside it: correct the box or width and height")
    return clipped


def _number(image: dict[str, Any], key: str, where: str) -> float:
    value = image.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if not _is_number(value):
        raise DataError(f"{where}: {key} must be a number, or null where unknown, got {value!r}")
    return float(value)


def _window(image: dict[str, Any], where: str) -> tuple[float, float]:
    window = image.get("windows", list(DEFAULT_WINDOW_HU))
    if not (isinstance(window, list) and len(window) == 2 and all(map(_is_number, window))):
        raise DataError(f"{where}: windows must be 2 numbers in HU, got {window!r}")
    if not window[0] < window[1]:
        raise DataError(f"{where}: windows must be low < high in HU, got {window}")
    return float(window[0]), float(window[1])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _list(content: dict[str, Any], key: str, source: str) -> list[Any]:
    values = content.get(key)
    if not isinstance(values, list):
        raise DataError(f"{source} must have a list of {key}, got a {type(values).__name__}")
    return values
