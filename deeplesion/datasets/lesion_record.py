"""What a row of ``DL_info.csv`` holds, and the errors about a user's data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Point = tuple[float, float]

INFO_FILE = "DL_info.csv"
HEADER_ROW = 1
#: ``Train_Val_Test`` counts them from 1.
SPLITS = ("train", "val", "test")
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
        file_name: Key slice of the row; empty where that cannot be read.
        split: Split of the row; None where that cannot be read.
    """

    path: str
    message: str
    remedy: str
    row: int | None = None
    column: str = ""
    value: str = ""
    file_name: str = ""
    split: str | None = None

    @property
    def ends_reading(self) -> bool:
        """Whether it is the file's, not that of a row which may be dropped."""
        return self.row is None or self.row == HEADER_ROW

    def __str__(self) -> str:
        where = f" (row {self.row} of {Path(self.path).name})" if self.row is not None else ""
        return f"{self.message}{where}; {self.remedy}"


class DataError(ValueError):
    """Something that is wrong with a user's data, in words for that user."""


class DLInfoError(DataError):
    """A malformed ``DL_info.csv``; ``problem`` says where and what to do."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[DLInfoError], tuple[Problem]]:
        return type(self), (self.problem,)


class LesionRecord(NamedTuple):
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
