"""A row of ``DL_info.csv`` becomes a :class:`LesionRecord`, or errors that name their place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import NoReturn, TypeVar

from deeplesion.datasets.lesion_record import (
    COARSE_TYPES,
    SPLITS,
    DLInfoError,
    LesionRecord,
    Point,
    Problem,
)

T = TypeVar("T")

#: A slice interval beyond these, in mm, is a mistake: of units, or of columns.
MIN_INTERVAL_MM = 0.05
MAX_INTERVAL_MM = 100.0
#: Cells whose numbers are kept: most columns repeat a few.
CACHED_CELLS = 4096
_SPLIT_CODES = {str(code): split for code, split in enumerate(SPLITS, start=1)}
_FILE_NAME = re.compile(r"(\d+)(_\d+_\d+)_(\d+)\.png")


class Row:
    """Cells of one row by column name; its failures know where they are.

    Args:
        path: The CSV.
        line: Line of the row, the header being line 1.
        cells: Text by column name.
    """

    def __init__(self, path: str, line: int, cells: dict[str, str]) -> None:
        self.path, self.line, self.cells = path, line, cells

    def parse(self, column: str, convert: Callable[[str], T], wanted: str) -> T:
        """Convert a cell, or fail saying what is wanted."""
        try:
            return convert(self.cells[column])
        except ValueError:
            self.fail(column, f"must be {wanted}")

    def fail(self, column: str, complaint: str) -> NoReturn:
        """Raise a :class:`DLInfoError` about ``column``, or about the row where it is empty."""
        value = self.cells.get(column, "")
        message = f"{column} {complaint}, got {value!r}" if column else complaint
        remedy = "correct or remove the row, or set on_error='skip' to drop its key slice"
        name = self.cells.get("File_name", "").strip()
        file_name = name if _FILE_NAME.fullmatch(name) else ""
        raise DLInfoError(
            Problem(
                self.path,
                message,
                remedy,
                self.line,
                column,
                value,
                file_name,
                _SPLIT_CODES.get(self.cells.get("Train_Val_Test", "").strip()),
            )
        )


def is_noisy(row: Row) -> bool:
    """Whether NIH marked the row ``Possibly_noisy``."""
    return _member(row, "Possibly_noisy", (0, 1)) == 1


def parse_row(row: Row) -> LesionRecord:
    """Turn a row into a lesion.

    Raises:
        DLInfoError: At the first cell that is wrong.
    """
    file_name, patient, key_slice = _names(row)
    spacing, interval = _spacing(row)
    long, short = _diameters(row)
    image_size = _image_size(row)
    return LesionRecord(
        file_name=file_name,
        series=file_name.rpartition("_")[0],
        patient_id=patient,
        key_slice=key_slice,
        bbox=_clipped_box(row, *image_size),
        recist=_recist(row),
        diameters_px=(long, short),
        diameters_mm=(long * spacing[0], short * spacing[0]),
        location=_location(row),
        coarse_type=_coarse_type(row),
        possibly_noisy=is_noisy(row),
        slice_range=_slice_range(row),
        spacing=spacing,
        slice_interval=interval,
        image_size=image_size,
        window=_window(row),
        gender=row.cells["Patient_gender"].strip(),
        age=_age(row),
        split=split_of(row),
        row=row.line,
    )


def row_problems(row: Row) -> Iterator[Problem]:
    """Yield all that is wrong with a row, one problem a column."""
    columns = set()
    for part in _PARTS:
        try:
            part(row)
        except DLInfoError as error:
            if error.problem.column not in columns:
                columns.add(error.problem.column)
                yield error.problem


def split_of(row: Row) -> str:
    """The split of a row."""
    return SPLITS[_member(row, "Train_Val_Test", range(1, len(SPLITS) + 1)) - 1]


def _names(row: Row) -> tuple[str, int, int]:
    file_name = row.cells["File_name"].strip()
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        row.fail("File_name", "must look like 000001_01_01_109.png")
    patient = row.parse("Patient_index", _integer, "a whole number")
    if patient != int(match[1]):
        row.fail("Patient_index", f"must be that of {file_name}")
    key_slice = row.parse("Key_slice_index", _integer, "a whole number")
    if key_slice != int(match[3]):
        row.fail("Key_slice_index", f"must be that of {file_name}")
    return file_name, patient, key_slice


def _image_size(row: Row) -> tuple[int, int]:
    size = row.parse("Image_size", _FEW_PAIRS, "2 numbers: height, width in px")
    height, width = int(size[0]), int(size[1])
    if min(size) < 1 or size != (height, width):
        row.fail("Image_size", "must be 2 whole numbers >= 1 px")
    return height, width


def _spacing(row: Row) -> tuple[tuple[float, float], float]:
    wanted = "3 numbers: pixel spacing x, y and slice interval in mm"
    x, y, interval = row.parse("Spacing_mm_px_", _FEW_TRIPLES, wanted)
    for name, value in (("pixel spacing", min(x, y)), ("slice_interval", interval)):
        if not (value > 0 and math.isfinite(value) and math.isfinite(x + y)):
            row.fail("Spacing_mm_px_", f"is wrong: {name} must be > 0 mm and finite")
    if not MIN_INTERVAL_MM <= interval <= MAX_INTERVAL_MM:
        limits = f"{MIN_INTERVAL_MM:g} to {MAX_INTERVAL_MM:g} mm"
        row.fail("Spacing_mm_px_", f"is wrong: slice_interval must be {limits}")
    return (x, y), interval


def _diameters(row: Row) -> tuple[float, float]:
    long, short = row.parse("Lesion_diameters_Pixel_", _PAIR, "2 numbers: long, short axis")
    if min(long, short) < 0 or long == 0:
        row.fail("Lesion_diameters_Pixel_", "must be > 0 px")
    return long, short


def _recist(row: Row) -> tuple[Point, Point, Point, Point]:
    wanted = "8 numbers: x, y of 4 points"
    a, b, c, d, e, f, g, h = row.parse("Measurement_coordinates", _EIGHT, wanted)
    return (a - 1, b - 1), (c - 1, d - 1), (e - 1, f - 1), (g - 1, h - 1)


def _location(row: Row) -> tuple[float, float, float]:
    x, y, z = row.parse("Normalized_lesion_location", _TRIPLE_OR_NAN, "3 numbers")
    return x, y, z


def _age(row: Row) -> float:
    return row.parse("Patient_age", _number_or_nan, "a number or empty")


def _coarse_type(row: Row) -> int:
    return _member(row, "Coarse_lesion_type", COARSE_TYPES)


def _box(row: Row) -> tuple[float, float, float, float]:
    return _clipped_box(row, *_image_size(row))


def _clipped_box(row: Row, height: int, width: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = row.parse("Bounding_boxes", _FOUR, "4 numbers: x1, y1, x2, y2")
    if x2 <= x1 or y2 <= y1:
        row.fail("Bounding_boxes", "has no area: x1 < x2 and y1 < y2 are wanted")
    x1, x2 = max(x1 - 1, 0.0), min(x2 - 1, width - 1.0)
    y1, y2 = max(y1 - 1, 0.0), min(y2 - 1, height - 1.0)
    if x2 <= x1 or y2 <= y1:
        row.fail("Bounding_boxes", f"is outside the image of {height} x {width} px (h x w)")
    return x1, y1, x2, y2


def _slice_range(row: Row) -> tuple[int, int]:
    first, last = row.parse("Slice_range", _PAIR_OR_NAN, "2 numbers: first, last")
    if not math.isfinite(first + last):
        return -1, -1
    return int(first), int(last)


def _window(row: Row) -> tuple[float, float]:
    lower, upper = row.parse("DICOM_windows", _FEW_PAIRS, "2 numbers: lower, upper end in HU")
    if lower >= upper:
        row.fail("DICOM_windows", "must have its lower end first")
    return lower, upper


def _member(row: Row, column: str, known: Collection[int]) -> int:
    try:
        value = _integer(row.cells[column])
    except ValueError:
        value = None
    if value is None or value not in known:
        row.fail(column, f"must be one of {list(known)}")
    return value


@lru_cache(CACHED_CELLS)
def _integer(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _number_or_nan(text: str) -> float:
    return float(text) if text.strip() else math.nan


def _numbers(count: int, finite: bool = True) -> Callable[[str], tuple[float, ...]]:
    """A converter of ``count`` numbers with commas between; an empty cell is NaNs."""
    unknown = (math.nan,) * count

    def convert(text: str) -> tuple[float, ...]:
        values = tuple(map(float, text.split(","))) if text.strip() else unknown
        if len(values) != count or (finite and not math.isfinite(sum(values))):
            raise ValueError(text)
        return values

    return convert


_PAIR, _FOUR, _EIGHT = _numbers(2), _numbers(4), _numbers(8)
# Of columns in which few different cells stand.
_FEW_PAIRS = lru_cache(CACHED_CELLS)(_PAIR)
_FEW_TRIPLES = lru_cache(CACHED_CELLS)(_numbers(3, finite=False))
_PAIR_OR_NAN, _TRIPLE_OR_NAN = _numbers(2, finite=False), _numbers(3, finite=False)
_PARTS = (
    _names,
    _image_size,
    _spacing,
    _diameters,
    _recist,
    _location,
    _box,
    _coarse_type,
    is_noisy,
    _slice_range,
    _window,
    _age,
    split_of,
)
