"""Groups of measurements of a report, read back by highdicom and compared with the document."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highdicom.sr
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from deeplesion.lesions.dicom_groups import COUNT, SCORE
from deeplesion.lesions.dicom_sr import write_sr
from deeplesion.lesions.document import build_document
from tests.deeplesion.lesions.dicom_series import (
    ROOT,
    SHUFFLED,
    document_of,
    values_of,
    write_and_read,
    write_multi_frame,
    write_series,
)
from tests.deeplesion.lesions.scans import CARD, SETTINGS, make_lesions


@pytest.mark.parametrize("flipped", [False, True])
def test_measurements_and_coordinates_come_back(tmp_path: Path, flipped: bool) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED, flipped)
    document = document_of(scan)
    report = write_and_read(tmp_path, scan)
    groups = report.content.get_planar_roi_measurement_groups()
    axes = report.content.get_image_measurement_groups()
    assert len(groups) == len(axes) == 2
    for lesion, group, lines in zip(document["lesions"], groups, axes, strict=True):
        values = values_of(group)
        assert values["Area"] == lesion["area_mm2"]
        assert values["Volume"] == lesion["volume_mm3"]
        assert values["Detector score"] == lesion["score"]
        assert values["Attenuation Coefficient Mean"] == lesion["hu"]["mean"]
        assert values["Attenuation Coefficient Standard Deviation"] == lesion["hu"]["sd"]
        assert values["Attenuation Coefficient Minimum"] == lesion["hu"]["min"]
        assert group.tracking_identifier == f"Lesion {lesion['number']}"
        assert group.tracking_uid == lines.tracking_uid
        assert group.finding_type == codes.SCT.Lesion
        box = next(e["box"] for e in lesion["slices"] if e["z"] == lesion["measured_slice"])
        corners = np.reshape([box[0], box[1], box[2] + 1, box[3] + 1], (2, 2))
        if flipped:
            corners = [30, 20] - corners
        outline = group.roi.value
        assert outline[0] == pytest.approx(outline[-1])
        assert outline.min(axis=0) == pytest.approx(np.min(corners, axis=0))
        assert outline.max(axis=0) == pytest.approx(np.max(corners, axis=0))


@pytest.mark.parametrize("flipped", [False, True])
def test_recist_lines_lie_on_the_measured_image(tmp_path: Path, flipped: bool) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED, flipped)
    document = document_of(scan)
    groups = write_and_read(tmp_path, scan).content.get_image_measurement_groups()
    for lesion, group in zip(document["lesions"], groups, strict=True):
        for name, key in ((codes.SCT.LongAxis, "long_axis"), (codes.SCT.ShortAxis, "short_axis")):
            (measured,) = group.get_measurements(name)
            assert measured.value == lesion[key]["mm"]
            assert measured.unit == codes.UCUM.Millimeter
            (line,) = measured.referenced_coordinates
            reference = line.ContentSequence[0].ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == f"{ROOT}2.{lesion['measured_slice']}"
            # Back from pixels of the image to the patient, by the header alone.
            header = dcmread(scan.files[lesion["measured_slice"]])
            steps = (line.value - 0.5) * np.array(header.PixelSpacing[::-1], float)
            directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
            ends = steps @ directions + np.array(header.ImagePositionPatient, float)
            assert ends == pytest.approx(np.array(lesion[key]["ends_lps_mm"]), abs=1e-3)


def test_frames_of_a_multi_frame_file_are_named(tmp_path: Path) -> None:
    scan = write_multi_frame(tmp_path, SHUFFLED)
    groups = write_and_read(tmp_path, scan).content.get_planar_roi_measurement_groups()
    # Measured on slices 3 and 1: the first and the last frame.
    for group, frame in zip(groups, (1, 6), strict=True):
        reference = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == f"{ROOT}3"
        assert reference.ReferencedFrameNumber == frame


def test_no_lesions_give_a_report_that_says_so(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    write_sr(tmp_path / "lesions.dcm", scan, build_document(scan, [], CARD, SETTINGS))
    report = highdicom.sr.srread(tmp_path / "lesions.dcm")
    assert report.content.get_planar_roi_measurement_groups() == []
    (group,) = report.content.get_image_measurement_groups()
    assert values_of(group) == {COUNT.meaning: 0}
    assert report.StudyInstanceUID == f"{ROOT}1"


def test_density_that_is_not_known_is_left_out(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    between = replace(make_lesions()[1], boxes=np.array([[3.5, 3.5, 3.5, 3.5]] * 2))
    write_sr(tmp_path / "lesions.dcm", scan, build_document(scan, [between], CARD, SETTINGS))
    report = highdicom.sr.srread(tmp_path / "lesions.dcm")
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert set(values_of(group)) == {"Area", "Volume", SCORE.meaning}
