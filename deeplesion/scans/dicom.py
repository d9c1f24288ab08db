"""A DICOM series as a scan."""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans import checks
from deeplesion.scans.dicom_headers import Headers, read_headers
from deeplesion.scans.dicom_pixels import is_whole, read_hu, same_pixels
from deeplesion.scans.dicom_series import Series, choose_series, find_series
from deeplesion.scans.dicom_stack import Stack, build_stack
from deeplesion.scans.orientation import Turn
from deeplesion.scans.scan import Scan, ScanError

#: What tells who the patient is, when and where: with dates and UIDs, others can look it up.
IDENTIFYING = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "PatientBirthDate"),
    *("PatientBirthTime", "PatientSex", "PatientAge", "PatientAddress", "PatientMotherBirthName"),
    *("PatientTelephoneNumbers", "PatientComments", "EthnicGroup", "Occupation"),
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "StudyID"),
    *("AccessionNumber", "StudyDate", "StudyTime", "SeriesDate", "SeriesTime"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "ContentDate", "ContentTime"),
    *("StudyDescription", "SeriesDescription", "ProtocolName"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord"),
    *("NameOfPhysiciansReadingStudy", "OperatorsName", "DeviceSerialNumber"),
)


def read_dicom(
    files: Sequence[Path], name: str, series: str | int | None = None, check_hu: bool = True
) -> Scan:
    """Read one series.

    Args:
        files: Of this series and others, in any order; what is not DICOM is skipped.
        name: Of the scan; the series number is added where there are several CT series.
        series: Which one, as :func:`deeplesion.scans.dicom_series.choose_series` takes it.
        check_hu: Whether to refuse what does not look like a CT in HU.

    Raises:
        ScanError: A file is damaged, there is no such series, or it is not an axial CT of regular
            slices.
    """
    headers = read_headers(files)
    if headers.damaged:
        raise ScanError(next(iter(headers.damaged.values())))
    found = find_series(headers)
    chosen, warnings = choose_series(found, series)
    with python_warnings.catch_warnings():
        # pydicom warns of values that break the standard but do no harm.
        python_warnings.simplefilter("ignore")
        stack = build_stack(chosen.slices, same_pixels)
        hu, turn, doubtful = _read_stack(stack)
        identity = _identity(stack.slices[0].path)
    if doubtful:
        warnings.append(
            "PixelPaddingValue is a value that tissue has, too, and was not taken for padding"
        )
    hu = checks.to_int16(hu)
    if check_hu:
        checks.check_hu(hu)
    thickness = stack.slices[0].thickness
    return Scan(
        name=_name(name, chosen, found),
        format="DICOM",
        hu=hu,
        geometry=turn.geometry(stack.geometry),
        stored=stack.geometry,
        thickness=thickness if thickness > 0 else math.nan,
        identity=identity,
        warnings=(*_of_strangers(headers), *warnings, *stack.warnings),
        **_origins(stack, turn),
    )


def _name(name: str, chosen: Series, found: Sequence[Series]) -> str:
    """The name of a scan, with what tells its series from others of the same folder."""
    numbers = [series.info.number for series in found if series.info.kind == "CT"]
    if len(numbers) == 1:
        return name
    number = chosen.info.number
    if number is None or numbers.count(number) > 1:
        return f"{name}_series{chosen.info.uid.split('.')[-1]}"
    return f"{name}_series{number}"


def _origins(stack: Stack, turn: Turn) -> dict[str, Any]:
    """Files, frames and whether interpolated, from head to feet as the slices of ``hu``."""
    step = -1 if turn.flips[2] else 1
    places = np.arange(stack.geometry.size[2])[::step]
    distances = np.abs(places[:, None] - stack.index)
    nearest = [stack.slices[place] for place in distances.argmin(axis=1)]
    paths = tuple(item.path for item in nearest)
    return {
        "files": paths if len(set(paths)) > 1 else paths[:1],
        "frames": tuple(item.frame + 1 for item in nearest if item.frame is not None),
        "interpolated": tuple(np.flatnonzero(distances.min(axis=1)).tolist()),
    }


def _read_stack(stack: Stack) -> tuple[NDArray[Any], Turn, bool]:
    """HU turned to ``(D, H, W)``, how they were turned, and whether padding was doubtful."""
    turn = Turn.of(stack.geometry)
    dtype = np.int16 if all(is_whole(item) for item in stack.slices) else np.float32
    hu = np.empty(turn.geometry(stack.geometry).size[::-1], dtype)
    # Slices are decoded to where they belong in the turned array: there is no second one.
    planes = turn.undo(hu)
    doubtful = False
    for item, place in zip(stack.slices, stack.index, strict=True):
        doubtful |= read_hu(item, planes[place])
    for below, above in zip(stack.index[:-1], stack.index[1:], strict=True):
        for place in range(below + 1, above):
            weight = np.float32((place - below) / (above - below))
            filled = planes[below] * (1 - weight) + planes[above] * weight
            planes[place] = np.rint(filled) if dtype is np.int16 else filled
    return hu, turn, doubtful


def _identity(path: Path) -> dict[str, str]:
    import pydicom

    dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    values = {keyword: str(dataset.get(keyword) or "").strip() for keyword in IDENTIFYING}
    return {keyword: value for keyword, value in values.items() if value}


def _of_strangers(headers: Headers) -> list[str]:
    if not headers.strangers:
        return []
    return [f"files that are not DICOM were skipped: {len(headers.strangers)}"]
