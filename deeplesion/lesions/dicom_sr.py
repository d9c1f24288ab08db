"""The findings in a DICOM series as a structured report: TID 1500, Measurement Report.

Each lesion is two groups of measurements that share a tracking identifier and its UID:

* TID 1501: long and short axis in mm, each with the line that it was measured along (SCOORD), on
  the slice that was measured. Viewers show them as a bidirectional measurement.
* TID 1410: the box on that slice as a closed polyline, with area, volume, density (mean, standard
  deviation, least and greatest HU) and the detector's score, for which there is no standard code
  (it is none of a probability): ``score``, scheme ``99DEEPLESION``.

Where the measured slice was missing in the series and was filled in, coordinates are on the image
nearest to it. Where no lesion was found, for the template wants a measurement, there is one group
that says so: ``count``, scheme ``99DEEPLESION``, 0.

A report belongs to the patient's study: it carries the name, ID and study of the images that it
measures, as the standard asks. It is marked as unverified and preliminary.
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import highdicom as hd
import numpy as np
from highdicom import sr
from numpy.typing import ArrayLike
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.overlaps import PIXEL, Floats
from deeplesion.io import atomic_write
from deeplesion.lesions.dicom_planes import Plane, nearest_plane, read_header, read_planes
from deeplesion.scans.scan import Scan

SCORE = Code("score", "99DEEPLESION", "Detector score")
COUNT = Code("count", "99DEEPLESION", "Number of lesions reported")
SERIES_DESCRIPTION = "Lesion detection (research, unverified)"
#: Above what scanners use, so that the report comes last in a list of series.
SERIES_NUMBER = 9100
#: How far from any image a measured slice may lie: readers fill gaps of missing slices.
FARTHEST_MM = 5.5
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "deeplesion-alignshift")
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_DENSITY = {
    "mean": codes.SCT.Mean,
    "sd": codes.SCT.StandardDeviation,
    "min": codes.SCT.Minimum,
    "max": codes.SCT.Maximum,
}


class _Image(NamedTuple):
    """The image that a lesion was measured on, and its header."""

    plane: Plane
    header: Dataset

    @property
    def source(self) -> sr.SourceImageForRegion:
        frames = None if self.plane.frame is None else [self.plane.frame]
        return sr.SourceImageForRegion.from_source_image(self.header, frames)


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
    report = build_sr(scan, document)
    with atomic_write(path) as temporary:
        report.save_as(temporary)


def build_sr(scan: Scan, document: Mapping[str, Any]) -> sr.ComprehensiveSR:
    """The report that :func:`write_sr` writes; it has the same arguments and errors."""
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
        groups += [
            _axes_group(lesion, image, document, scan, algorithm),
            _region_group(lesion, image, document, scan, algorithm),
        ]
    if not groups:
        groups = [_empty_group(document, algorithm)]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(_observer(document)),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=groups,
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
        )


def _images(scan: Scan, document: Mapping[str, Any]) -> list[_Image]:
    """For each lesion the image of the slice that was measured, each header read once."""
    planes = read_planes(scan.files)
    headers: dict[Any, Dataset] = {}
    images = []
    for lesion in document["lesions"]:
        corners = scan.geometry.to_patient(_corners(lesion))
        plane = nearest_plane(planes, corners, max(scan.slice_interval / 2, FARTHEST_MM))
        if plane.file not in headers:
            headers[plane.file] = _header(plane.file)
        images.append(_Image(plane, headers[plane.file]))
    return images


def _header(file: Any) -> Dataset:
    """A header with all attributes that a report takes over, empty where the file lacks them."""
    header = read_header(file)
    for name in _NEEDED:
        if not header.get(name):
            raise DataError(f"{file.name} has no {name}: a structured report cannot refer to it")
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    return header


def _axes_group(
    lesion: Mapping[str, Any],
    image: _Image,
    document: Mapping[str, Any],
    scan: Scan,
    algorithm: sr.AlgorithmIdentification,
) -> sr.MeasurementsAndQualitativeEvaluations:
    measurements = [
        sr.Measurement(
            name=name,
            value=axis["mm"],
            unit=codes.UCUM.Millimeter,
            referenced_coordinates=[
                sr.CoordinatesForMeasurement(
                    sr.GraphicTypeValues.POLYLINE,
                    _pixels(scan, image, axis["ends_px"], lesion["measured_slice"]),
                    image.source,
                )
            ],
        )
        for name, axis in (
            (codes.SCT.LongAxis, lesion["long_axis"]),
            (codes.SCT.ShortAxis, lesion["short_axis"]),
        )
    ]
    return sr.MeasurementsAndQualitativeEvaluations(
        measurements=measurements, **_finding(lesion, document, algorithm)
    )


def _region_group(
    lesion: Mapping[str, Any],
    image: _Image,
    document: Mapping[str, Any],
    scan: Scan,
    algorithm: sr.AlgorithmIdentification,
) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
    outline = image.plane.to_pixels(scan.geometry.to_patient(_corners(lesion)))
    region = sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, outline[[0, 1, 2, 3, 0]], image.source)
    values = [
        (codes.SCT.Area, lesion["area_mm2"], codes.UCUM.SquareMillimeter, None),
        (codes.SCT.Volume, lesion["volume_mm3"], codes.UCUM.CubicMillimeter, None),
        (SCORE, lesion["score"], codes.UCUM.NoUnits, None),
        *(
            (codes.DCM.AttenuationCoefficient, value, codes.UCUM.HounsfieldUnit, _DENSITY[name])
            for name, value in lesion["hu"].items()
        ),
    ]
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=region,
        measurements=[
            sr.Measurement(name=name, value=value, unit=unit, derivation=derivation)
            for name, value, unit, derivation in values
            if value is not None
        ],
        **_finding(lesion, document, algorithm),
    )


def _empty_group(
    document: Mapping[str, Any], algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    uid = _uid([document["scan"]["id"], *_hashes(document["generator"])])
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier="No lesion reported"),
        algorithm_id=algorithm,
        measurements=[sr.Measurement(name=COUNT, value=0, unit=codes.UCUM.NoUnits)],
    )


def _corners(lesion: Mapping[str, Any]) -> Floats:
    """``(4, 3)`` outer corners in voxels, in order, of a lesion's box on the measured slice."""
    z = lesion["measured_slice"]
    x1, y1, x2, y2 = next(each["box"] for each in lesion["slices"] if each["z"] == z)
    x1, y1, x2, y2 = x1 - PIXEL / 2, y1 - PIXEL / 2, x2 + PIXEL / 2, y2 + PIXEL / 2
    return np.array([[x1, y1, z], [x2, y1, z], [x2, y2, z], [x1, y2, z]])


def _pixels(scan: Scan, image: _Image, points: ArrayLike, z: int) -> Floats:
    """Points x, y in px of a slice as column and row of its image."""
    flat = np.asarray(points, np.float64)
    voxels = np.column_stack([flat, np.full(len(flat), z)])
    return image.plane.to_pixels(scan.geometry.to_patient(voxels))


def _finding(
    lesion: Mapping[str, Any], document: Mapping[str, Any], algorithm: sr.AlgorithmIdentification
) -> dict[str, Any]:
    """What both groups of a lesion have in common."""
    generator = document["generator"]
    settings = json.dumps(generator["settings"], sort_keys=True, default=str)
    key = [document["scan"]["id"], *_hashes(generator), settings, str(lesion["number"])]
    name = f"Lesion {lesion['number']}"
    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=_uid(key), identifier=name),
        "finding_type": codes.SCT.Lesion,
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure,
        "algorithm_id": algorithm,
    }


def _observer(document: Mapping[str, Any]) -> sr.ObserverContext:
    generator = document["generator"]
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid([generator["software"], generator["version"], *_hashes(generator)]),
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


def _hashes(generator: Mapping[str, Any]) -> list[str]:
    return [generator["checkpoint_sha256"], generator["config_sha256"]]


def _uid(parts: list[str]) -> str:
    """The same UID for the same parts, so that a repeated run tracks the same lesions."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, ' '.join(parts)).int}"
