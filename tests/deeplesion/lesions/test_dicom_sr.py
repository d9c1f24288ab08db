"""Structured reports, read back by highdicom and compared with the document."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom.sr
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from deeplesion.datasets.lesion_record import DataError
from deeplesion.lesions.dicom_sr import COUNT, SCORE, write_sr
from deeplesion.lesions.document import build_document
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.dicom_series import ROOT, write_multi_frame, write_series
from tests.deeplesion.lesions.scans import CARD, SETTINGS, make_lesions, make_scan

SHUFFLED = [3, 0, 5, 2, 4, 1]


def document_of(scan: Scan) -> dict[str, Any]:
    """The findings in the small scan."""
    return build_document(scan, make_lesions(), CARD, SETTINGS)


def write_and_read(folder: Path, scan: Scan) -> highdicom.sr.ComprehensiveSR:
    """The report, as highdicom reads it."""
    write_sr(folder / "lesions.dcm", scan, document_of(scan))
    report = highdicom.sr.srread(folder / "lesions.dcm")
    assert isinstance(report, highdicom.sr.ComprehensiveSR)
    return report


def values_of(group: Any) -> dict[str, float]:
    """Measurements of a group by name and derivation."""
    return {
        " ".join(filter(None, [each.name.meaning, each.derivation and each.derivation.meaning])): (
            each.value
        )
        for each in group.get_measurements()
    }


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


def test_slice_that_was_filled_in_is_shown_on_its_neighbor(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    kept = tuple(file for z, file in enumerate(scan.files) if z != 3)
    report = write_and_read(tmp_path, replace(scan, files=kept))
    group = report.content.get_planar_roi_measurement_groups()[0]
    reference = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID in (f"{ROOT}2.2", f"{ROOT}2.4")
    assert group.roi.value.min(axis=0) == pytest.approx([4, 5])
    with pytest.raises(DataError, match="no file of the series lies where a lesion was measured"):
        write_sr(tmp_path / "x.dcm", replace(scan, files=kept[:1]), document_of(scan))


def test_report_belongs_to_the_study_and_names_the_algorithm(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    report = write_and_read(tmp_path, scan)
    assert report.PatientID == "P-4711"
    assert report.StudyInstanceUID == f"{ROOT}1"
    assert report.SeriesInstanceUID != f"{ROOT}1.2"
    assert report.Modality == "SR"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.SoftwareVersions == "1.2.3"
    text = report.to_json()
    assert "b" * 64 in text
    assert "not a medical device" in text
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = {item.ReferencedSOPInstanceUID for s in evidence for item in s.ReferencedSOPSequence}
    assert uids == {f"{ROOT}2.3", f"{ROOT}2.1"}


def test_repeated_run_tracks_the_same_lesions_in_a_new_report(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    first, second = write_and_read(tmp_path, scan), write_and_read(tmp_path, scan)
    assert first.SOPInstanceUID != second.SOPInstanceUID
    uids = [
        [group.tracking_uid for group in report.content.get_planar_roi_measurement_groups()]
        for report in (first, second)
    ]
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 2


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
    between = replace(make_lesions()[1], boxes=np.array([[3.2, 3.2, 3.6, 3.6]] * 2))
    write_sr(tmp_path / "lesions.dcm", scan, build_document(scan, [between], CARD, SETTINGS))
    report = highdicom.sr.srread(tmp_path / "lesions.dcm")
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert set(values_of(group)) == {"Area", "Volume", SCORE.meaning}


def test_what_a_file_lacks_is_left_empty_or_named(tmp_path: Path) -> None:
    scan, files = write_series(tmp_path, SHUFFLED)
    for file in files:
        header = dcmread(file)
        for name in ("PatientName", "PatientBirthDate", "AccessionNumber", "StudyTime"):
            delattr(header, name)
        header.save_as(file)
    report = write_and_read(tmp_path, scan)
    assert not report.PatientName
    header = dcmread(scan.files[3])
    del header.StudyInstanceUID
    header.save_as(scan.files[3])
    (tmp_path / "lesions.dcm").unlink()
    with pytest.raises(DataError, match=r"image_0\.dcm has no StudyInstanceUID"):
        write_and_read(tmp_path, scan)
    assert not (tmp_path / "lesions.dcm").exists()


@pytest.mark.parametrize("scan", [make_scan(), replace(make_scan(), format="DICOM", files=())])
def test_only_scans_from_dicom_files_have_reports(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(DataError, match="needs a scan that was read from DICOM files"):
        write_sr(tmp_path / "lesions.dcm", scan, document_of(scan))
    assert not list(tmp_path.iterdir())
