"""A row of ``DL_info.csv`` becomes a :class:`LesionRecord` or an error that names its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

Point = tuple[float, float]
T = TypeVar("T")

COLUMNS = (
    "File_name",
    "Patient_index",
    "Study_index",
    "Series_ID",
    "Key_slice_index",
    "Measurement_coordinates",
    "Bounding_boxes",
    "Lesion_diameters_Pixel_",
    "Normalized_lesion_location",
    "Coarse_lesion_type",
    "Possibly_noisy",
    "Slice_range",
    "Spacing_mm_px_",
    "Image_size",
    "DICOM_windows",
    "Patient_gender",
    "Patient_age",
    "Train_Val_Test",
)
SPLITS = {1: "train", 2: "val", 3: "test"}
COARSE_TYPES = {
    -1: "unknown",
    1: "bone",
    2: "abdomen",
    3: "mediastinum",
    4: "liver",
    5: "lung",
    6: "kidney",
    7: "soft tissue",
    8: "pelvis",
}
_FILE_NAME = re.compile(r"(\d+)(_\d+_\d+)_(\d+)\.png")


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set.

    Attributes:
        path: The file or folder that has it.
        message: What is wrong, with what was found and what is wanted.
        remedy: What to do.
        row: Line of the CSV, the header being line 1; None if none is meant.
        column: Column of the CSV; empty if none is meant.
        value: What stands there.
    """

    path: str
    message: str
    remedy: str
    row: int | None = None
    column: str = ""
    value: str = ""

    def __str__(self) -> str:
        where = f" (row {self.row} of {Path(self.path).name})" if self.row is not None else ""
        return f"{self.message}{where}; {self.remedy}"


class DLInfoError(ValueError):
    """A malformed ``DL_info.csv``; ``problem`` says where and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[DLInfoError], tuple[Problem]]:
        return type(self), (self.problem,)


@dataclass(frozen=True, slots=True)
class LesionRecord:
    """One lesion: one row of ``DL_info.csv``.

    Attributes:
        file_name: Key slice as the CSV names it, ``000001_01_01_109.png``.
        series: Folder of the slices, ``000001_01_01``.
        patient_id: Patient index.
        key_slice: Number of the annotated slice in its series.
        bbox: ``(x1, y1, x2, y2)`` in px, 0-based, clipped to the image.
        recist: Ends of the long axis, then of the short axis, in px, 0-based.
        diameters_px, diameters_mm: Long and short axis.
        location: x, y, z normalized to the body; NaN where unknown.
        coarse_type: Key of :data:`COARSE_TYPES`; -1 unknown.
        possibly_noisy: Marked so by NIH.
        slice_range: First and last slice that NIH gives for the lesion; ``(-1, -1)`` if absent.
        spacing: Pixel spacing x, y in mm.
        slice_interval: Distance of slices in mm.
        image_size: ``(height, width)`` in px.
        window: Lower and upper end of the DICOM window in HU.
        gender, age: ``M``, ``F`` or empty; years, NaN if absent.
        split: ``train``, ``val`` or ``test``.
        row: Line of the CSV, the header being line 1.
    """

    file_name: str
    series: str
    patient_id: int
    key_slice: int
    bbox: tuple[float, float, float, float]
    recist: tuple[Point, Point, Point, Point]
    diameters_px: tuple[float, float]
    diameters_mm: tuple[float, float]
    location: tuple[float, float, float]
    coarse_type: int
    possibly_noisy: bool
    slice_range: tuple[int, int]
    spacing: tuple[float, float]
    slice_interval: float
    image_size: tuple[int, int]
    window: tuple[float, float]
    gender: str
    age: float
    split: str
    row: int


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
        remedy = "correct or remove the row, or set on_error='skip' to drop such rows"
        raise DLInfoError(Problem(self.path, message, remedy, self.line, column, value))


def is_noisy(row: Row) -> bool:
    """Whether NIH marked the row ``Possibly_noisy``."""
    return _member(row, "Possibly_noisy", (0, 1)) == 1


def parse_row(row: Row) -> LesionRecord:
    """Turn a row into a lesion.

    Raises:
        DLInfoError: At the first cell that is wrong.
    """
    file_name, patient, key_slice = _names(row)
    height, width = size = _image_size(row)
    spacing, interval = _spacing(row)
    long, short = _diameters(row)
    ends = row.parse("Measurement_coordinates", _EIGHT, "8 numbers: x, y of 4 points")
    x, y, z = row.parse("Normalized_lesion_location", _TRIPLE_OR_NAN, "3 numbers")
    return LesionRecord(
        file_name=file_name,
        series=file_name.rpartition("_")[0],
        patient_id=patient,
        key_slice=key_slice,
        bbox=_box(row, height, width),
        recist=(
            (ends[0] - 1, ends[1] - 1),
            (ends[2] - 1, ends[3] - 1),
            (ends[4] - 1, ends[5] - 1),
            (ends[6] - 1, ends[7] - 1),
        ),
        diameters_px=(long, short),
        diameters_mm=(long * spacing[0], short * spacing[0]),
        location=(x, y, z),
        coarse_type=_member(row, "Coarse_lesion_type", COARSE_TYPES),
        possibly_noisy=is_noisy(row),
        slice_range=_slice_range(row),
        spacing=spacing,
        slice_interval=interval,
        image_size=size,
        window=_window(row),
        gender=row.cells["Patient_gender"].strip(),
        age=row.parse("Patient_age", _number_or_nan, "a number or empty"),
        split=SPLITS[_member(row, "Train_Val_Test", SPLITS)],
        row=row.line,
    )


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
    size = row.parse("Image_size", _PAIR, "2 numbers: height, width in px")
    if min(size) < 1 or size != [int(v) for v in size]:
        row.fail("Image_size", "must be 2 whole numbers >= 1 px")
    return int(size[0]), int(size[1])


def _spacing(row: Row) -> tuple[tuple[float, float], float]:
    wanted = "3 numbers: pixel spacing x, y and slice interval in mm"
    x, y, interval = row.parse("Spacing_mm_px_", _TRIPLE_OR_NAN, wanted)
    for name, value in (("pixel spacing", min(x, y)), ("slice_interval", interval)):
        if not (value > 0 and math.isfinite(value) and math.isfinite(x + y)):
            row.fail("Spacing_mm_px_", f"is wrong: {name} must be > 0 mm and finite")
    return (x, y), interval


def _diameters(row: Row) -> tuple[float, float]:
    long, short = row.parse("Lesion_diameters_Pixel_", _PAIR, "2 numbers: long, short axis")
    if min(long, short) < 0 or long == 0:
        row.fail("Lesion_diameters_Pixel_", "must be > 0 px")
    return long, short


def _box(row: Row, height: int, width: int) -> tuple[float, float, float, float]:
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
    lower, upper = row.parse("DICOM_windows", _PAIR, "2 numbers: lower, upper end in HU")
    if lower >= upper:
        row.fail("DICOM_windows", "must have its lower end first")
    return lower, upper


def _member(row: Row, column: str, known: Collection[int]) -> int:
    wanted = f"one of {list(known)}"
    value = row.parse(column, _integer, wanted)
    if value not in known:
        row.fail(column, f"must be {wanted}")
    return value


def _integer(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _number_or_nan(text: str) -> float:
    return float(text) if text.strip() else math.nan


def _numbers(count: int, finite: bool = True) -> Callable[[str], list[float]]:
    """A converter of ``count`` numbers with commas between; an empty cell is NaNs."""

    def convert(text: str) -> list[float]:
        values = list(map(float, text.split(","))) if text.strip() else [math.nan] * count
        if len(values) != count or (finite and not math.isfinite(sum(values))):
            raise ValueError(text)
        return values

    return convert


_PAIR, _FOUR, _EIGHT = _numbers(2), _numbers(4), _numbers(8)
_PAIR_OR_NAN, _TRIPLE_OR_NAN = _numbers(2, finite=False), _numbers(3, finite=False)
