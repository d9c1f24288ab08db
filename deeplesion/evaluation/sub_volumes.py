"""Published 3D annotations of DeepLesion: sub-volumes of its series with all lesions in them.

Three layouts are read, told apart by what they hold:

* "Manual Lesion Annotations of DeepLesion": ``{split: {name: (n, 6) array}}``, rows x1, y1, z1, x2,
  y2, z2, z numbers of slices in the series. K. Yan et al., "Learning from Multiple Datasets with
  Heterogeneous and Partial Labels for Universal Lesion Detection in CT", IEEE TMI 2020.
* "Lesion Harvester", lesions marked on one slice: ``{name: {z: [[x1, y1, x2, y2, z, z], ...]}}``, z
  counted from the first slice of the sub-volume. J. Cai et al., IEEE TMI 2020.
* "Lesion Harvester", 3D boxes: ``{name: [[x1, y1, x2, y2, z1, z2], ...]}``, z likewise.

A name, ``000001_01_01_103-115``, tells the series, its first slice and its last; some end in
``.annot``, which is dropped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplesion.datasets.lesion_record import SPLITS, DataError
from deeplesion.evaluation.overlaps import Floats
from deeplesion.evaluation.restricted_pickle import load_restricted

_NAME = re.compile(r"(\d+_\d+_\d+)_(\d+)-(\d+)")
_ENDING = ".annot"
_COLUMNS = 6
# From x1, y1, x2, y2, z1, z2 to x1, y1, z1, x2, y2, z2.
_Z_LAST = [0, 1, 4, 2, 3, 5]
_LAYOUTS = (
    "{split: {name: (n, 6) array}}, {name: {z: [[x1, y1, x2, y2, z, z], ...]}} and "
    "{name: [[x1, y1, x2, y2, z1, z2], ...]} are read"
)


class SubVolume(NamedTuple):
    """A range of slices of a series with all lesions in it.

    Attributes:
        name: ``000001_01_01_103-115``.
        split: ``train``, ``val``, ``test``, or empty where the file does not tell.
        series: Folder of the slices, ``000001_01_01``.
        first, last: Numbers of its first and last slice in the series.
        lesions: ``(m, 6)`` x1, y1, z1, x2, y2, z2 in px and numbers of slices in the series.
    """

    name: str
    split: str
    series: str
    first: int
    last: int
    lesions: Floats


def read_sub_volumes(path: str | os.PathLike[str]) -> list[SubVolume]:
    """Read a published annotation file.

    Args:
        path: A ``.pkl``, read by :mod:`deeplesion.evaluation.restricted_pickle`.

    Returns:
        Sub-volumes by split and name, those without lesions too.

    Raises:
        DataError: If the file is no pickle of plain contents, of another layout, has a box that is
            malformed or has no slice in its sub-volume, or a sub-volume twice; it names the file
            and the key and tells what was found.
    """
    content = load_restricted(path)
    file = Path(path).name
    if not isinstance(content, dict) or not content:
        raise DataError(f"{file} holds {_shown(content)}; {_LAYOUTS}")
    if set(content) <= set(SPLITS):
        found = [
            _sub_volume(f"{file}, {split!r}, {name!r}", name, split, there)
            for split, part in content.items()
            for name, there in _checked_part(file, split, part).items()
        ]
    else:
        _check_alike(file, content)
        found = [
            _sub_volume(f"{file}, {name!r}", name, "", value) for name, value in content.items()
        ]
    _check_unique(file, found)
    return sorted(found, key=lambda volume: (volume.split, volume.name))


def _checked_part(file: str, split: str, part: Any) -> dict[Any, Any]:
    if not isinstance(part, dict):
        raise DataError(f"{file}, {split!r}: holds {_shown(part)}; {_LAYOUTS}")
    return part


def _sub_volume(where: str, name: Any, split: str, value: Any) -> SubVolume:
    """A sub-volume of any layout; ``where`` names it in messages."""
    plain = name.removesuffix(_ENDING) if isinstance(name, str) else ""
    match = _NAME.fullmatch(plain)
    if match is None or int(match[2]) > int(match[3]):
        raise DataError(
            f"{where}: the key must name series, first and last slice, as 000001_01_01_103-115 "
            f"does; {_LAYOUTS}"
        )
    first, last = int(match[2]), int(match[3])
    if split:
        lesions = _rows_of_array(where, value)
    else:
        of_slices = isinstance(value, dict)
        rows = _rows_of_slices(where, value) if of_slices else _rows_of_list(where, value)
        lesions = rows[:, _Z_LAST] + np.array([0, 0, first, 0, 0, first])
    _check_boxes(where, lesions, first, last)
    return SubVolume(plain, split, match[1], first, last, lesions)


def _rows_of_array(where: str, value: Any) -> Floats:
    is_array = isinstance(value, np.ndarray) and value.dtype.kind in "iuf"
    if not is_array or not (value.size == 0 or value.shape[1:] == (_COLUMNS,)):
        raise DataError(
            f"{where}: must be an (n, 6) array of x1, y1, z1, x2, y2, z2, got {_shown(value)}"
        )
    rows: Floats = value.astype(np.float64).reshape(-1, _COLUMNS)
    return rows


def _rows_of_list(where: str, value: Any) -> Floats:
    rows = value if isinstance(value, list) else [None]
    if any(not _is_row(row) for row in rows):
        wrong = next(row for row in rows if not _is_row(row)) if isinstance(value, list) else value
        raise DataError(
            f"{where}: must be a list of rows x1, y1, x2, y2, z1, z2, got {_shown(wrong)}"
        )
    return np.array(rows, np.float64).reshape(-1, _COLUMNS)


def _rows_of_slices(where: str, value: dict[Any, Any]) -> Floats:
    parts = []
    for z, boxes in value.items():
        rows = _rows_of_list(f"{where}, slice {z!r}", boxes)
        if not _is_number(z) or np.any(rows[:, 4:] != z):
            raise DataError(
                f"{where}, slice {z!r}: rows must end in that number, twice, got {rows.tolist()}"
            )
        parts.append(rows)
    return np.concatenate([np.zeros((0, _COLUMNS)), *parts])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating)


def _is_row(row: Any) -> bool:
    return isinstance(row, list | tuple) and len(row) == _COLUMNS and all(map(_is_number, row))


def _check_alike(file: str, content: dict[Any, Any]) -> None:
    """Refuse a file that mixes lesions by slice with 3D boxes, or holds bare arrays."""
    filled = {key: value for key, value in content.items() if not _is_empty(value)}
    kinds = {key: type(value).__name__ for key, value in filled.items()}
    for key, kind in kinds.items():
        first = next(iter(kinds))
        if kind not in ("dict", "list") or kind != kinds[first]:
            before = f" after {_shown(filled[first])}" if key != first else ""
            raise DataError(f"{file}, {key!r}: holds {_shown(filled[key])}{before}; {_LAYOUTS}")


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list) and not value


def _check_boxes(where: str, lesions: Floats, first: int, last: int) -> None:
    low, high = lesions[:, :3], lesions[:, 3:]
    outside = (high[:, 2] < first) | (low[:, 2] > last)
    for wrong, complaint in (
        (~np.isfinite(lesions).all(axis=1), "box must be finite"),
        ((high < low).any(axis=1), "box must have x1 <= x2, y1 <= y2 and z1 <= z2"),
        (outside, f"box must have a slice in {first} to {last}"),
    ):
        if wrong.any():
            row = lesions[wrong][0].tolist()
            raise DataError(f"{where}: {complaint}, got {row} (x1, y1, z1, x2, y2, z2)")


def _check_unique(file: str, volumes: Iterable[SubVolume]) -> None:
    seen: set[str] = set()
    for volume in volumes:
        if volume.name in seen:
            raise DataError(f"{file}, {volume.name!r}: is there twice; keep one of the two")
        seen.add(volume.name)


def _shown(value: Any) -> str:
    """What was found, in short."""
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    if isinstance(value, dict | list | tuple) and len(value) > 1:
        return f"a {type(value).__name__} of {len(value)}"
    return f"{type(value).__name__} {str(value)[:80]}"
