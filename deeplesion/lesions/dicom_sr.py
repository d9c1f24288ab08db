"""The findings in a DICOM series as a structured report: TID 1500, Measurement Report.

What it says of each lesion is told in :mod:`deeplesion.lesions.dicom_groups`. A report belongs to
the patient's study: it carries the name, ID and study of the images that it measures, as the
standard asks. It is marked as unverified and preliminary.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
from highdicom import sr
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

from deeplesion.datasets.lesion_record import DataError
from deeplesion.io import atomic_write
from deeplesion.lesions.dicom_groups import (
    MeasuredImage,
    box_corners,
    empty_group,
    lesion_groups,
    stable_uid,
)
from deeplesion.lesions.dicom_planes import nearest_plane, read_header, read_planes
from deeplesion.scans.scan import Scan

SERIES_DESCRIPTION = "Lesion detection (research, unverified)"
#: Above what scanners use, so that the report comes last in a list of series.
SERIES_NUMBER = 9100
#: Whatever the images use: names of files must fit, too.
UTF_8 = "ISO_IR 192"
#: How far from any image a measured slice may lie: readers fill gaps of missing slices.
FARTHEST_MM = 5.5
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)


def write_sr(path: str | os.PathLike[str], scan: Scan, document: Mapping[str, Any]) -> None:
    """Write a DICOM structured report.

    Args:
        path: Where the file shall be; written by :func:`deeplesion.io.atomic_write`.
        scan: Read from DICOM; its files are read again for their headers.
        document: What :func:`deeplesion.lesions.document.build_document` says of it.

    Raises:
        DataError: If the scan is not from DICOM files, or these lack what a report needs.
        OSError: If a file cannot be read or written.
    """
    try:
        report = build_sr(scan, document)
        with atomic_write(path) as temporary:
            report.save_as(temporary)
    except DataError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        # As highdicom and pydicom say that a header does not keep to the standard.
        said = " ".join(str(error).split())
        raise DataError(f"a structured report cannot take over its headers: {said}") from error


def build_sr(scan: Scan, document: Mapping[str, Any]) -> sr.ComprehensiveSR:
    """The report that :func:`write_sr` writes, of the same arguments.

    Raises:
        DataError: As there.
        ValueError, TypeError, AttributeError: A header does not keep to the standard.
    """
    if scan.format != "DICOM" or not scan.files:
        raise DataError(
            f"a structured report needs a scan that was read from DICOM files, got {scan.format}"
        )
    images = _images(scan, document)
    generator = document["generator"]
    algorithm = sr.AlgorithmIdentification(
        name=generator["software"], version=generator["version"], parameters=_parameters(document)
    )
    groups: list[Any] = []
    for lesion, image in zip(document["lesions"], images, strict=True):
        groups += lesion_groups(lesion, image, document, algorithm)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(_observer(document)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups or [empty_group(document, algorithm)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = {image.header.SOPInstanceUID: image.header for image in images}
    headers = list(evidence.values()) or [_header(scan.files[0])]
    return _document(report, headers, generator)


def _document(
    report: sr.MeasurementReport, evidence: list[Dataset], generator: Mapping[str, Any]
) -> sr.ComprehensiveSR:
    with warnings.catch_warnings():
        # Of how others wrote the patient's name, which is copied as it stands.
        warnings.simplefilter("ignore")
        return sr.ComprehensiveSR(
            evidence=evidence,
            content=report,
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=generator["software"],
            manufacturer_model_name=generator["software"],
            software_versions=generator["version"],
            series_description=SERIES_DESCRIPTION,
            is_complete=True,
            specific_character_set=UTF_8,
        )


def _images(scan: Scan, document: Mapping[str, Any]) -> list[MeasuredImage]:
    """For each lesion the image of the slice that was measured, each header read once."""
    planes = read_planes(scan.files, scan.frames)
    headers: dict[Path, Dataset] = {}
    images = []
    for lesion in document["lesions"]:
        corners = scan.geometry.to_patient(box_corners(lesion))
        plane = nearest_plane(planes, corners, max(scan.slice_interval / 2, FARTHEST_MM))
        if plane.file not in headers:
            headers[plane.file] = _header(plane.file)
        images.append(MeasuredImage(scan.geometry, plane, headers[plane.file]))
    return images


def _header(file: Path) -> Dataset:
    """A header with all attributes that a report takes over, empty where the file lacks them.

    So are those whose value the standard does not know, such as a sex of U: highdicom takes none.
    """
    header = read_header(file)
    for name in _NEEDED:
        if not header.get(name):
            raise DataError(f"{file.name} has no {name}: a structured report cannot refer to it")
    for name in _MAY_BE_EMPTY:
        if not _is_valid(name, header.get(name)):
            setattr(header, name, None)
    return header


def _is_valid(name: str, value: Any) -> bool:
    try:
        if name.endswith("Date"):
            DA(value)
        elif name.endswith("Time"):
            TM(value)
        elif name == "PatientSex" and value:
            hd.PatientSexValues(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return value is not None


def _observer(document: Mapping[str, Any]) -> sr.ObserverContext:
    generator = document["generator"]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=stable_uid(generator, generator["software"], generator["version"]),
        name=generator["software"],
        manufacturer_name=generator["software"],
        model_name=generator["config"],
        serial_number=generator["checkpoint_sha256"],
    )
    return sr.ObserverContext(codes.DCM.Device, device)


def _parameters(document: Mapping[str, Any]) -> list[str]:
    generator = document["generator"]
    return [
        document["disclaimer"],
        f"checkpoint {generator['checkpoint']}, sha256 {generator['checkpoint_sha256']}",
        f"config {generator['config']}, sha256 {generator['config_sha256']}",
        f"settings {json.dumps(generator['settings'], sort_keys=True, default=str)}",
    ]
