"""Rows of ``DL_info.csv`` become :class:`LesionRecord`, or a fault that names its column.

Every process of a training reads the 32,735 rows, so they are taken by columns: the cells of many
rows are converted, and checked, at once. What is wrong is told of the rows as a whole; it is that
of one row where only this one is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.lesion_record import COARSE_TYPES, SPLITS, LesionRecord, Point

T = TypeVar("T")
#: Cells of one column, one a row.
Texts = Sequence[str]
#: Converts one column, or several, to as many values as there are rows.
Part = Callable[..., list[Any]]

#: A slice interval beyond these, in mm, is a mistake: of units, or of columns.
MIN_INTERVAL_MM = 0.05
MAX_INTERVAL_MM = 100.0
#: Cells whose values are kept, for each column in which few different ones stand.
KEPT_CELLS = 4096
FILE_NAME = re.compile(r"((\d+)_\d+_\d+)_(\d+)\.png")


class RowError(ValueError):
    """What is wrong with a cell of ``column``, or with a row where that is empty."""

    def __init__(self, column: str, complaint: str) -> None:
        super().__init__(column, complaint)
        self.column, self.complaint = column, complaint


def parse_rows(columns: Mapping[str, Texts], lines: Sequence[int]) -> list[LesionRecord]:
    """Turn rows into lesions.

    Args:
        columns: Cells by the name of their column, of one row or more.
        lines: Line of each row, the header being line 1.

    Raises:
        RowError: If a row is wrong; of a single one, the first of its faults.
    """

    def values(part: Part) -> list[Any]:
        return part(*(columns[column] for column in _COLUMNS_OF[part]))

    file_names, series, patients, key_slices = zip(*values(_names), strict=True)
    spacings, intervals = zip(*values(_spacing), strict=True)
    diameters = values(_diameters)
    fields = {
        "file_name": file_names,
        "series": series,
        "patient_id": patients,
        "key_slice": key_slices,
        "image_size": values(_image_size),
        "bbox": values(_box),
        "recist": values(_recist),
        "diameters_px": diameters,
        "diameters_mm": [
            (long * x, short * x) for (long, short), (x, _) in zip(diameters, spacings, strict=True)
        ],
        "location": values(_location),
        "coarse_type": values(_coarse_type),
        "possibly_noisy": values(is_noisy),
        "slice_range": values(_slice_range),
        "spacing": spacings,
        "slice_interval": intervals,
        "window": values(_window),
        "gender": [text.strip() for text in columns["Patient_gender"]],
        "age": values(_age),
        "split": values(split_of),
        "row": lines,
    }
    in_order = (fields[name] for name in LesionRecord._fields)
    return list(map(LesionRecord._make, zip(*in_order, strict=True)))


def row_errors(cells: Mapping[str, str]) -> Iterator[RowError]:
    """Yield all that is wrong with one row, a fault a column.

    Args:
        cells: Text by the name of its column.
    """
    found = set()
    for part, columns in _COLUMNS_OF.items():
        try:
            part(*([cells[column]] for column in columns))
        except RowError as fault:
            if fault.column not in found:
                found.add(fault.column)
                yield fault


def is_noisy(texts: Texts) -> list[bool]:
    """Whether NIH marked rows ``Possibly_noisy``."""
    return [mark == 1 for mark in _members(texts, "Possibly_noisy", (0, 1))]


def split_of(texts: Texts) -> list[str]:
    """The splits that ``Train_Val_Test`` tells."""
    codes = _members(texts, "Train_Val_Test", range(1, len(SPLITS) + 1))
    return [SPLITS[code - 1] for code in codes]


def _by_cell(convert: Callable[[str], T]) -> Callable[[Texts], list[T]]:
    """A converter of columns in which few different cells stand, made of one of cells."""
    kept = lru_cache(KEPT_CELLS)(convert)
    return lambda texts: list(map(kept, texts))


def _names(names: Texts, patients: Texts, keys: Texts) -> list[tuple[str, str, int, int]]:
    """File name, series, patient and key slice."""
    parts_of_names = map(_parts_of_name, names)
    file_names, series, named_patients, named_keys = zip(*parts_of_names, strict=True)
    patient_ids = _integers(patients, "Patient_index")
    if patient_ids != list(map(int, named_patients)):
        raise RowError("Patient_index", f"must be that of {file_names[0]}")
    key_slices = _integers(keys, "Key_slice_index")
    if key_slices != list(map(int, named_keys)):
        raise RowError("Key_slice_index", f"must be that of {file_names[0]}")
    return list(zip(file_names, series, patient_ids, key_slices, strict=True))


def _parts_of_name(name: str) -> tuple[str, str, str, str]:
    match = FILE_NAME.fullmatch(name.strip())
    if match is None:
        raise RowError("File_name", "must look like 000001_01_01_109.png")
    series, patient, key_slice = match.groups()
    return match[0], series, patient, key_slice


@_by_cell
def _image_size(text: str) -> tuple[int, int]:
    (size,) = _numbers([text], 2, "Image_size", "2 numbers: height, width in px")
    height, width = map(int, size)
    if size.min() < 1 or (size != (height, width)).any():
        raise RowError("Image_size", "must be 2 whole numbers >= 1 px")
    return height, width


@_by_cell
def _spacing(text: str) -> tuple[tuple[float, float], float]:
    column = "Spacing_mm_px_"
    wanted = "3 numbers: pixel spacing x, y and slice interval in mm"
    x, y, interval = _numbers([text], 3, column, wanted, finite=False)[0].tolist()
    for name, value in (("pixel spacing", min(x, y)), ("slice_interval", interval)):
        if not (value > 0 and math.isfinite(value) and math.isfinite(x + y)):
            raise RowError(column, f"is wrong: {name} must be > 0 mm and finite")
    if not MIN_INTERVAL_MM <= interval <= MAX_INTERVAL_MM:
        limits = f"{MIN_INTERVAL_MM:g} to {MAX_INTERVAL_MM:g} mm"
        raise RowError(column, f"is wrong: slice_interval must be {limits}")
    return (x, y), interval


def _diameters(texts: Texts) -> list[tuple[float, float]]:
    column = "Lesion_diameters_Pixel_"
    axes = _numbers(texts, 2, column, "2 numbers: long, short axis")
    if (axes < 0).any() or (axes[:, 0] == 0).any():
        raise RowError(column, "must be > 0 px")
    return _tuples(axes)


def _recist(texts: Texts) -> list[tuple[Point, Point, Point, Point]]:
    numbers = _numbers(texts, 8, "Measurement_coordinates", "8 numbers: x, y of 4 points")
    points = iter(_tuples(numbers.reshape(-1, 2) - 1))
    return list(zip(points, points, points, points, strict=True))


def _location(texts: Texts) -> list[tuple[float, float, float]]:
    return _tuples(_numbers(texts, 3, "Normalized_lesion_location", "3 numbers", finite=False))


@_by_cell
def _age(text: str) -> float:
    return float(_numbers([text], 1, "Patient_age", "a number or empty", finite=False)[0, 0])


def _coarse_type(texts: Texts) -> list[int]:
    return _members(texts, "Coarse_lesion_type", COARSE_TYPES)


def _box(texts: Texts, sizes: Texts) -> list[tuple[float, float, float, float]]:
    """Boxes clipped to images of which other cells tell the size."""
    shapes = _image_size(sizes)
    boxes = _numbers(texts, 4, "Bounding_boxes", "4 numbers: x1, y1, x2, y2")
    begins, ends = boxes[:, :2], boxes[:, 2:]
    if (ends <= begins).any():
        raise RowError("Bounding_boxes", "has no area: x1 < x2 and y1 < y2 are wanted")
    begins = np.maximum(begins - 1, 0)
    ends = np.minimum(ends - 1, np.array(shapes, float)[:, ::-1] - 1)
    if (ends <= begins).any():
        height, width = shapes[0]
        complaint = f"is outside the image of {height} x {width} px (h x w)"
        raise RowError("Bounding_boxes", complaint)
    return _tuples(np.hstack((begins, ends)))


def _slice_range(texts: Texts) -> list[tuple[int, int]]:
    ranges = _numbers(texts, 2, "Slice_range", "2 numbers: first, last", finite=False).tolist()
    return [
        (int(first), int(last)) if math.isfinite(first + last) else (-1, -1)
        for first, last in ranges
    ]


@_by_cell
def _window(text: str) -> tuple[float, float]:
    column, wanted = "DICOM_windows", "2 numbers: lower, upper end in HU"
    lower, upper = _numbers([text], 2, column, wanted)[0].tolist()
    if lower >= upper:
        raise RowError(column, "must have its lower end first")
    return lower, upper


def _members(texts: Texts, column: str, known: Collection[int]) -> list[int]:
    wanted = f"one of {list(known)}"
    values = _integers(texts, column, wanted)
    if not set(values).issubset(known):
        raise RowError(column, f"must be {wanted}")
    return values


def _integers(texts: Texts, column: str, wanted: str = "a whole number") -> list[int]:
    try:
        return _whole(texts)
    except ValueError:
        raise RowError(column, f"must be {wanted}") from None


@_by_cell
def _whole(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _numbers(
    texts: Texts, count: int, column: str, wanted: str, finite: bool = True
) -> NDArray[np.float64]:
    """Cells of ``count`` numbers with commas between, (rows, count); empty ones are NaNs."""
    unknown = ",".join(["nan"] * count)
    texts = [text.strip() or unknown for text in texts]
    complaint = f"must be {wanted}"
    if set(map(str.count, texts, repeat(","))) != {count - 1}:
        raise RowError(column, complaint)
    try:
        numbers = np.array(",".join(texts).split(","), float).reshape(-1, count)
    except ValueError:
        raise RowError(column, complaint) from None
    if finite and not np.isfinite(numbers).all():
        raise RowError(column, complaint)
    return numbers


def _tuples(rows: NDArray[np.float64]) -> list[tuple[Any, ...]]:
    return list(map(tuple, rows.tolist()))


#: What a lesion is made of, in the order in which all faults of a row are told.
_COLUMNS_OF: dict[Part, tuple[str, ...]] = {
    _names: ("File_name", "Patient_index", "Key_slice_index"),
    _image_size: ("Image_size",),
    _spacing: ("Spacing_mm_px_",),
    _diameters: ("Lesion_diameters_Pixel_",),
    _recist: ("Measurement_coordinates",),
    _location: ("Normalized_lesion_location",),
    _box: ("Bounding_boxes", "Image_size"),
    _coarse_type: ("Coarse_lesion_type",),
    is_noisy: ("Possibly_noisy",),
    _slice_range: ("Slice_range",),
    _window: ("DICOM_windows",),
    _age: ("Patient_age",),
    split_of: ("Train_Val_Test",),
}
