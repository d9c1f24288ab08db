"""Structured reports as a whole, read back by highdicom."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom.sr
import pytest
from pydicom import DataElement, dcmread
from pydicom.datadict import dictionary_VR

from deeplesion.datasets.lesion_record import DataError
from deeplesion.lesions import dicom_sr
from deeplesion.lesions.dicom_sr import write_sr
from deeplesion.lesions.document import build_document
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.dicom_series import (
    ROOT,
    SHUFFLED,
    document_of,
    write_and_read,
    write_multi_frame,
    write_series,
)
from tests.deeplesion.lesions.scans import CARD, SETTINGS, make_lesions, make_scan


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


def test_the_frame_of_the_phase_that_was_searched_is_named(tmp_path: Path) -> None:
    scan = write_multi_frame(tmp_path, [*range(6), *range(6)])
    report = write_and_read(tmp_path, replace(scan, frames=tuple(range(7, 13))))
    group = report.content.get_planar_roi_measurement_groups()[0]
    assert group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == 10


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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PatientSex", "U"),
        ("PatientBirthDate", "19500000"),
        ("PatientBirthDate", "anon"),
        ("StudyDate", "2031-12-24"),
        ("StudyTime", "anon"),
    ],
)
def test_values_that_the_standard_does_not_know_are_left_empty(
    tmp_path: Path, name: str, value: str
) -> None:
    scan, files = write_series(tmp_path, SHUFFLED)
    for file in files:
        header = dcmread(file)
        header[name] = DataElement(name, "LO", value)  # as text, which is not looked at
        header[name].VR = dictionary_VR(name)
        header.save_as(file)
    report = write_and_read(tmp_path, scan)
    assert not report[name].value
    assert report.PatientID == "P-4711"


def test_what_else_highdicom_refuses_is_an_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    for kind in (ValueError, TypeError, AttributeError):

        def refuse(*_: Any, kind: type = kind, **__: Any) -> None:
            raise kind("not\nstandard")

        monkeypatch.setattr(dicom_sr.sr, "MeasurementReport", refuse)
        with pytest.raises(DataError, match="take over its headers: not standard"):
            write_sr(tmp_path / "x.dcm", scan, document_of(scan))
    assert not (tmp_path / "x.dcm").exists()


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_names_of_any_script(tmp_path: Path, charset: Any, name: str) -> None:
    scan, files = write_series(tmp_path, SHUFFLED)
    for file in files:
        header = dcmread(file)
        header.SpecificCharacterSet, header.PatientName = charset, name
        header.save_as(file)
    card = replace(CARD, config="肺.py")
    write_sr(tmp_path / "sr.dcm", scan, build_document(scan, make_lesions(), card, SETTINGS))
    report = highdicom.sr.srread(tmp_path / "sr.dcm")
    assert str(report.PatientName) == name
    assert "肺.py" in json.dumps(report.to_json_dict(), ensure_ascii=False)


@pytest.mark.parametrize("scan", [make_scan(), replace(make_scan(), format="DICOM", files=())])
def test_only_scans_from_dicom_files_have_reports(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(DataError, match="needs a scan that was read from DICOM files"):
        write_sr(tmp_path / "lesions.dcm", scan, document_of(scan))
    assert not list(tmp_path.iterdir())
