"""The series of a DICOM folder: what they are, and which one to read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplesion.scans import dicom_stack
from deeplesion.scans.dicom_checks import plane_name
from deeplesion.scans.dicom_headers import Headers, SliceHeader, read_headers
from deeplesion.scans.formats import files_below
from deeplesion.scans.scan import ScanError


@dataclass(frozen=True)
class SeriesInfo:
    """What is known of a series without its pixels.

    Attributes:
        uid: SeriesInstanceUID.
        number: SeriesNumber; None if absent.
        description: SeriesDescription. It may hold what identifies.
        modality: ``CT``, ``MR``, ...
        kind: ``CT`` for slices of a CT, else what it is: ``localizer``, ``MR Image``, ...
        slices: Number of slices at different positions; of objects, where it is no CT.
        size: Columns and rows in px.
        spacing: Pixel spacing x, y in mm; NaN if unknown.
        slice_interval: Distance of slices in mm; NaN if unknown.
        thickness: Of a slice in mm; NaN if unknown.
        orientation: ``axial``, ``coronal``, ``sagittal``, ``oblique``, or empty if unknown.
        problem: Why it cannot be read, with the remedy; empty where it can, by its headers.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    kind: str
    slices: int
    size: tuple[int, int]
    spacing: tuple[float, float]
    slice_interval: float
    thickness: float
    orientation: str
    problem: str

    def __str__(self) -> str:
        """The series in short, without its description."""
        number = "without number" if self.number is None else str(self.number)
        if self.kind != "CT":
            return f"series {number} ({self.slices} x {self.kind})"
        apart = "" if math.isnan(self.slice_interval) else f", {self.slice_interval:g} mm apart"
        noun = "slice" if self.slices == 1 else "slices"
        what = " ".join(filter(None, (str(self.slices), self.orientation, noun)))
        return f"series {number} ({what}{apart})"


@dataclass(frozen=True)
class Series:
    """A series: what is known of it, and its slices."""

    info: SeriesInfo
    slices: tuple[SliceHeader, ...]


def list_series(folder: str | Path) -> list[SeriesInfo]:
    """All series below a folder, by their headers.

    Args:
        folder: A DICOM folder.

    Returns:
        Those that can be read first, in the order of preference, so that the first is what
        :func:`deeplesion.scans.read_scan` takes; then the others with their ``problem``.

    Raises:
        ScanError: The folder does not exist, or has no DICOM file.
    """
    if not Path(folder).is_dir():
        raise ScanError(f"{folder} is not a folder")
    found = find_series(read_headers(files_below(Path(folder))))
    if not found:
        raise ScanError(f"{folder} holds no DICOM series")
    return [series.info for series in found]


def find_series(headers: Headers) -> list[Series]:
    """Series in the order of preference: readable, most slices, thinner, lower number."""
    groups: dict[tuple[str, str], list[SliceHeader]] = {}
    for item in headers.slices:
        groups.setdefault((item.uid, item.kind), []).append(item)
    found = [Series(_describe(items), tuple(items)) for items in groups.values()]
    return sorted(found, key=lambda series: _preference(series.info))


def choose_series(found: Sequence[Series], wanted: str | int | None) -> tuple[Series, list[str]]:
    """The series to read.

    Args:
        found: Of :func:`find_series`.
        wanted: SeriesInstanceUID, the beginning of one, or a series number; None takes the first.

    Returns:
        The series, and the warnings: which others could be read.

    Raises:
        ScanError: There is none such, several, or it cannot be read.
    """
    scans = [series for series in found if series.info.kind == "CT"]
    if wanted is not None:
        scans = _matching(found, str(wanted).strip())
    if not scans:
        what = Counter(series.info.kind for series in found for _ in series.slices)
        kinds = ", ".join(f"{count} x {kind}" for kind, count in what.most_common())
        raise ScanError(f"there is no CT in it (found: {kinds or 'nothing'}); give a CT series")
    first, *others = scans
    if first.info.problem:
        also = "".join(f"; {item.info}: {item.info.problem}" for item in others)
        raise ScanError(f"{first.info}: {first.info.problem}{also}")
    if wanted is not None:
        return first, []
    readable = [str(item.info) for item in others if not item.info.problem]
    refused = [f"{item.info}, not readable" for item in others if item.info.problem]
    if not readable and not refused:
        return first, []
    rest = "; ".join(readable + refused)
    return first, [f"took {first.info}; choose another by series: {rest}"]


def _matching(found: Sequence[Series], wanted: str) -> list[Series]:
    """The series of a number, else of a UID, else of the beginning of a UID."""
    by_number = [series for series in found if str(series.info.number) == wanted]
    by_uid = [series for series in found if series.info.uid == wanted]
    by_prefix = [series for series in found if wanted and series.info.uid.startswith(wanted)]
    matches = by_uid or by_number or by_prefix
    scans = [series for series in matches if series.info.kind == "CT"]
    if len(scans) > 1:
        listed = "; ".join(f"{series.info.uid} is {series.info}" for series in scans)
        raise ScanError(f"series {wanted} is not one: {listed}; give one's UID")
    if not matches:
        listed = "; ".join(f"{series.info} ({series.info.uid})" for series in found)
        raise ScanError(f"there is no series {wanted}; there is {listed}")
    if not scans:
        raise ScanError(f"{matches[0].info} is no CT; give a CT series")
    return scans


def _describe(slices: Sequence[SliceHeader]) -> SeriesInfo:
    first = slices[0]
    interval, problem = math.nan, ""
    if not first.kind:
        try:
            interval = float(dicom_stack.build_stack(slices).geometry.spacing[2])
        except ScanError as error:
            problem = str(error)
    else:
        problem = f"it is {first.kind}, no CT"
    between_rows, between_columns = first.spacing or (math.nan, math.nan)
    return SeriesInfo(
        uid=first.uid,
        number=first.number,
        description=first.description,
        modality=first.modality,
        kind=first.kind or "CT",
        slices=len(slices) if first.kind else dicom_stack.count_positions(slices),
        size=first.size,
        spacing=(between_columns, between_rows),
        slice_interval=interval,
        thickness=first.thickness,
        orientation=plane_name(first),
        problem=problem,
    )


def _preference(info: SeriesInfo) -> tuple[bool, bool, int, float, float]:
    """Sorting key: smaller is better."""
    thickness = info.thickness if info.thickness > 0 else math.inf
    number = math.inf if info.number is None else float(info.number)
    return bool(info.problem), info.kind != "CT", -info.slices, thickness, number
