"""What a structured report says of a lesion: two groups of measurements.

They share a tracking identifier and its UID:

* TID 1501: long and short axis in mm, each with the line that it was measured along (SCOORD), on
  the slice that was measured. Viewers show them as a bidirectional measurement.
* TID 1410: the box on that slice as a closed polyline, with area, volume, density (mean, standard
  deviation, least and greatest HU) and the detector's score, for which there is no standard code
  (it is none of a probability): ``score``, scheme ``99DEEPLESION``.

Where the measured slice was missing in the series and was filled in, coordinates are on the image
nearest to it. Where no lesion was found, for the template wants a measurement, there is one group
that says so: ``count``, scheme ``99DEEPLESION``, 0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from highdicom import sr
from numpy.typing import ArrayLike
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from deeplesion.evaluation.overlaps import PIXEL, Floats
from deeplesion.lesions.dicom_planes import Plane
from deeplesion.scans.geometry import Geometry

SCORE = Code("score", "99DEEPLESION", "Detector score")
COUNT = Code("count", "99DEEPLESION", "Number of lesions reported")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "deeplesion-alignshift")
_DENSITY = {
    "mean": codes.SCT.Mean,
    "sd": codes.SCT.StandardDeviation,
    "min": codes.SCT.Minimum,
    "max": codes.SCT.Maximum,
}


class MeasuredImage(NamedTuple):
    """The image that a lesion was measured on.

    Attributes:
        geometry: Of the scan, in whose voxels the document is.
        plane: Of the image.
        header: Of its file.
    """

    geometry: Geometry
    plane: Plane
    header: Dataset

    @property
    def source(self) -> sr.SourceImageForRegion:
        """The reference to it, with the frame where it is one of several."""
        frames = None if self.plane.frame is None else [self.plane.frame]
        return sr.SourceImageForRegion.from_source_image(self.header, frames)

    def to_pixels(self, voxels: ArrayLike) -> Floats:
        """Column and row ``(n, 2)``, as SR counts them, of voxels ``(n, 3)`` of the scan."""
        return self.plane.to_pixels(self.geometry.to_patient(voxels))


def lesion_groups(
    lesion: Mapping[str, Any],
    image: MeasuredImage,
    document: Mapping[str, Any],
    algorithm: sr.AlgorithmIdentification,
) -> tuple[
    sr.MeasurementsAndQualitativeEvaluations, sr.PlanarROIMeasurementsAndQualitativeEvaluations
]:
    """The groups of a lesion: its axes, then its box and all else.

    Args:
        lesion: Of the document.
        image: Of its measured slice.
        document: What :func:`deeplesion.lesions.document.build_document` gives.
        algorithm: What found it.
    """
    finding = _finding(lesion, document, algorithm)
    axes = sr.MeasurementsAndQualitativeEvaluations(
        measurements=[
            _axis(codes.SCT.LongAxis, lesion["long_axis"], lesion["measured_slice"], image),
            _axis(codes.SCT.ShortAxis, lesion["short_axis"], lesion["measured_slice"], image),
        ],
        **finding,
    )
    outline = image.to_pixels(box_corners(lesion))[[0, 1, 2, 3, 0]]
    region = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, outline, image.source),
        measurements=_region_measurements(lesion),
        **finding,
    )
    return axes, region


def empty_group(
    document: Mapping[str, Any], algorithm: sr.AlgorithmIdentification
) -> sr.MeasurementsAndQualitativeEvaluations:
    """The group that says that no lesion is reported; arguments as above."""
    uid = stable_uid(document["generator"], document["scan"]["id"])
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier="No lesion reported"),
        algorithm_id=algorithm,
        measurements=[sr.Measurement(name=COUNT, value=0, unit=codes.UCUM.NoUnits)],
    )


def box_corners(lesion: Mapping[str, Any]) -> Floats:
    """``(4, 3)`` outer corners in voxels, in order, of a lesion's box on the measured slice."""
    z = lesion["measured_slice"]
    x1, y1, x2, y2 = next(each["box"] for each in lesion["slices"] if each["z"] == z)
    x1, y1, x2, y2 = x1 - PIXEL / 2, y1 - PIXEL / 2, x2 + PIXEL / 2, y2 + PIXEL / 2
    return np.array([[x1, y1, z], [x2, y1, z], [x2, y2, z], [x1, y2, z]])


def stable_uid(generator: Mapping[str, Any], *parts: str) -> str:
    """The same UID for the same network and parts: a repeated run tracks the same lesions."""
    hashes = (generator["checkpoint_sha256"], generator["config_sha256"])
    return f"2.25.{uuid.uuid5(_NAMESPACE, ' '.join([*hashes, *parts])).int}"


def _axis(name: Code, axis: Mapping[str, Any], z: int, image: MeasuredImage) -> sr.Measurement:
    ends = np.column_stack([axis["ends_px"], [z, z]])
    line = sr.CoordinatesForMeasurement(
        sr.GraphicTypeValues.POLYLINE, image.to_pixels(ends), image.source
    )
    return sr.Measurement(
        name=name, value=axis["mm"], unit=codes.UCUM.Millimeter, referenced_coordinates=[line]
    )


def _region_measurements(lesion: Mapping[str, Any]) -> list[sr.Measurement]:
    values = [
        (codes.SCT.Area, lesion["area_mm2"], codes.UCUM.SquareMillimeter, None),
        (codes.SCT.Volume, lesion["volume_mm3"], codes.UCUM.CubicMillimeter, None),
        (SCORE, lesion["score"], codes.UCUM.NoUnits, None),
        *(
            (codes.DCM.AttenuationCoefficient, value, codes.UCUM.HounsfieldUnit, _DENSITY[name])
            for name, value in lesion["hu"].items()
        ),
    ]
    return [
        sr.Measurement(name=name, value=value, unit=unit, derivation=derivation)
        for name, value, unit, derivation in values
        if value is not None
    ]


def _finding(
    lesion: Mapping[str, Any], document: Mapping[str, Any], algorithm: sr.AlgorithmIdentification
) -> dict[str, Any]:
    """What both groups of a lesion have in common."""
    generator = document["generator"]
    settings = json.dumps(generator["settings"], sort_keys=True, default=str)
    uid = stable_uid(generator, document["scan"]["id"], settings, str(lesion["number"]))
    name = f"Lesion {lesion['number']}"
    return {
        "tracking_identifier": sr.TrackingIdentifier(uid=uid, identifier=name),
        "finding_type": codes.SCT.Lesion,
        "finding_category": codes.SCT.MorphologicallyAbnormalStructure,
        "algorithm_id": algorithm,
    }
