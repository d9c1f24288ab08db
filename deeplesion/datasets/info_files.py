"""Files of key slices in JSON, which ``ann_file`` takes instead of ``DL_info.csv``.

Such a file is ``{"metainfo": {"classes": ["lesion"]}, "data_list": [data info, ...]}``,
mmdetection's own layout, with data infos as :mod:`deeplesion.datasets.data_infos` describes them.
``file_name``, ``height``, ``width``, ``slice_interval`` and ``instances`` with ``bbox`` must be
there; the rest has defaults. What is not known, NaN in memory, is null.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deeplesion.datasets.lesion_record import SPLITS, DataError
from deeplesion.datasets.row_parser import MAX_INTERVAL_MM, MIN_INTERVAL_MM
from deeplesion.io import write_json

DEFAULT_WINDOW_HU = (-175.0, 275.0)
_REQUIRED = ("file_name", "height", "width", "slice_interval", "instances")
_NOT_IN_FILES = ("img_path", "image_root", "packed", "sample_idx", "skip_bad_neighbors")
_FILE_NAME = re.compile(r"(.*[^/\\])_([0-9]+)\.png")


def write_infos(path: str | os.PathLike[str], infos: Iterable[dict[str, Any]]) -> None:
    """Write a file of key slices that :func:`read_infos` reads back; paths are left out."""
    kept = [{k: v for k, v in info.items() if k not in _NOT_IN_FILES} for info in infos]
    write_json(path, {"metainfo": {"classes": ["lesion"]}, "data_list": _without_nan(kept)})


def read_infos(path: str | os.PathLike[str], split: str | None = None) -> list[dict[str, Any]]:
    """Read a file of key slices.

    Boxes are checked and clipped to their image as those of ``DL_info.csv`` are.

    Args:
        path: The JSON file.
        split: Only key slices of this split; None for all.

    Returns:
        Data infos without paths, defaults filled in.

    Raises:
        DataError: If the file is not of that layout; it names the file and the entry.
    """
    content = read_json(path)
    entries = content.get("data_list") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{path} must be {{'metainfo': ..., 'data_list': [...]}} of key slices")
    infos, numbers = [], dict[str, int]()
    for number, entry in enumerate(entries):
        where = f"entry {number} of data_list in {path}"
        try:
            info = _checked(entry, number)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        first = numbers.setdefault(info["file_name"], number)
        if first != number:
            raise DataError(f"{where}: {info['file_name']} is that of entry {first} already")
        infos.append(info)
    return [info for info in infos if split in (None, info["split"])]


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        DataError: If it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # of the syntax, or of the encoding
        raise DataError(f"{path} is not JSON: {error}") from None


def _checked(entry: Any, number: int) -> dict[str, Any]:
    missing = [key for key in _REQUIRED if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    name = entry["file_name"]
    match = _FILE_NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(f"file_name must look like 000001_01_01_109.png, got {name!r}")
    info = {
        "img_id": number,
        "series": match[1],
        "key_slice": int(match[2]),
        "patient_id": -1,
        "split": None,
        "row": None,
        **entry,
    }
    for key in ("height", "width"):
        if not _is_whole(info[key]) or info[key] < 1:
            raise ValueError(f"{key} must be a whole number >= 1 px, got {info[key]!r}")
    if not _is_whole(info["key_slice"]) or not isinstance(info["series"], str):
        raise ValueError("key_slice must be a whole number and series a string")
    if info["split"] not in (None, *SPLITS):
        raise ValueError(f"split must be one of {SPLITS} or null, got {info['split']!r}")
    info["slice_interval"] = _interval(info["slice_interval"])
    info["spacing"] = _pair(info.get("spacing"), "spacing", (math.nan, math.nan))
    low, high = info["window"] = _pair(info.get("window"), "window", DEFAULT_WINDOW_HU)
    if not low < high:
        raise ValueError(f"window must be (low, high) in HU with low < high, got {low}, {high}")
    if not isinstance(info["instances"], list):
        raise ValueError(f"instances must be a list of lesions, got {info['instances']!r}")
    size = (info["height"], info["width"])
    info["instances"] = [_lesion(n, lesion, size) for n, lesion in enumerate(info["instances"])]
    return info


def _interval(value: Any) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if not _is_number(value) or not MIN_INTERVAL_MM <= value <= MAX_INTERVAL_MM:
        limits = f"{MIN_INTERVAL_MM:g} to {MAX_INTERVAL_MM:g} mm"
        raise ValueError(f"slice_interval must be {limits}, or null if unknown, got {value!r}")
    return float(value)


def _pair(value: Any, name: str, default: tuple[float, float]) -> tuple[float, float]:
    if value is None or value == [None, None]:
        return default
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise ValueError(f"{name} must be 2 numbers or null, got {value!r}")
    return value[0], value[1]


def _lesion(number: int, lesion: Any, size: tuple[int, int]) -> dict[str, Any]:
    box = lesion.get("bbox") if isinstance(lesion, dict) else None
    where = f"bbox of lesion {number}"
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        raise ValueError(f"{where} must be [x1, y1, x2, y2] in px, got {box!r}")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"{where} must be [x1, y1, x2, y2] with an area, got {box}")
    limits = (size[1] - 1, size[0] - 1)
    clipped = [min(max(value, 0), limit) for value, limit in zip(box, limits * 2, strict=True)]
    if not (clipped[0] < clipped[2] and clipped[1] < clipped[3]):
        raise ValueError(f"{where} is outside the image of {size[0]} x {size[1]} px, got {box}")
    return {"bbox_label": 0, "ignore_flag": 0, **lesion, "bbox": clipped}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _without_nan(value: Any) -> Any:
    """The same of lists and dicts alone, None for NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
