"""Which DICOM image, and which of its pixels, a position in the patient is in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydicom import Dataset, dcmread

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.overlaps import Floats

_TAGS = [
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


class Plane(NamedTuple):
    """Where an image is in the patient.

    Attributes:
        file: That holds it.
        frame: Its number in the file, from 1; None where the file has one image only.
        position: ``(3,)`` center of the first pixel in LPS mm.
        directions: ``(2, 3)`` unit vectors of growing column and of growing row.
        spacing: ``(2,)`` distance of columns and of rows in mm.
    """

    file: Path
    frame: int | None
    position: Floats
    directions: Floats
    spacing: Floats

    def distance(self, positions: ArrayLike) -> Floats:
        """Distances ``(...)`` in mm of positions ``(..., 3)`` from the plane."""
        normal = np.cross(*self.directions)
        off: Floats = np.abs((np.asarray(positions, np.float64) - self.position) @ normal)
        return off

    def to_pixels(self, positions: ArrayLike) -> Floats:
        """Column and row ``(..., 2)`` of positions ``(..., 3)``, as SR counts them.

        The upper left corner of the first pixel is (0, 0), its center (0.5, 0.5): DICOM PS3.3,
        C.18.6.1.
        """
        steps = np.asarray(positions, np.float64) - self.position
        pixels: Floats = steps @ self.directions.T / self.spacing + 0.5
        return pixels


def read_planes(files: Sequence[Path], frames: Sequence[int] = ()) -> list[Plane]:
    """The planes of a series' images; files may have several frames each.

    Args:
        files: The series, in any order; one that is there several times is read once.
        frames: Of files with several frames the numbers, from 1, of those to take, for others may
            be of another phase at the same place: one for each file, or several for a single one.
            Empty: all.

    Raises:
        DataError: If a file is no DICOM image or does not say where it is.
    """
    each = list(files) * len(frames) if len(files) == 1 else list(files)
    # Where only some of the files have frames, it is not told which.
    wanted = set(zip(each, frames, strict=True)) if len(each) == len(frames) else set()
    return [
        plane
        for file in dict.fromkeys(files)
        for plane in _planes_of(file)
        if not wanted or plane.frame is None or (file, plane.frame) in wanted
    ]


def nearest_plane(planes: Sequence[Plane], positions: ArrayLike, tolerance: float) -> Plane:
    """The plane that positions lie in.

    Args:
        planes: Of a series.
        positions: ``(n, 3)`` in LPS mm.
        tolerance: How far from it they may be, in mm.

    Raises:
        DataError: If none is so near: the files are not those of the scan.
    """
    distances = [float(plane.distance(positions).max()) for plane in planes]
    if not distances or min(distances) > tolerance:
        raise DataError(
            "no file of the series lies where a lesion was measured; give write_sr the scan as it "
            "was read from these files"
        )
    return planes[int(np.argmin(distances))]


def read_header(file: Path) -> Dataset:
    """All of a file but its pixels; DataError if it is no DICOM."""
    return _read(file)


def _read(file: Path, tags: list[Any] | None = None) -> Dataset:
    # By force, for readers take files without preamble, too.
    header = dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
    if not header:
        raise DataError(f"{file.name} is no DICOM file; an SR needs the series as stored")
    return header


def _planes_of(file: Path) -> Iterable[Plane]:
    header = _read(file, _TAGS)
    frames = header.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        yield _plane(file, None, [header])
        return
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for number, groups in enumerate(frames, start=1):
        yield _plane(file, number, [*_group_items(groups), *(_group_items(*shared[:1]))])


def _group_items(*groups: Dataset) -> list[Dataset]:
    """The items that functional groups hold where frames are located."""
    names = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    return [item for group in groups for name in names for item in group.get(name) or []]


def _plane(file: Path, frame: int | None, items: Sequence[Dataset]) -> Plane:
    def value(tag: str, count: int) -> Floats:
        found = next((item.get(tag) for item in items if item.get(tag) is not None), ())
        numbers = np.array([float(number) for number in found])
        if len(numbers) != count or not np.isfinite(numbers).all():
            raise DataError(f"{file.name} has no {tag}: an SR needs to know where each image is")
        return numbers

    # Pixel Spacing is the distance of rows, then that of columns.
    return Plane(
        file=file,
        frame=frame,
        position=value("ImagePositionPatient", 3),
        directions=value("ImageOrientationPatient", 6).reshape(2, 3),
        spacing=value("PixelSpacing", 2)[::-1],
    )
