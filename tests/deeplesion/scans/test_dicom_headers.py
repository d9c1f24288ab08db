"""Tests of the pass over headers."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import MRImageStorage

from deeplesion.scans.dicom_headers import read_headers
from deeplesion.scans.formats import files_below
from tests.deeplesion.scans.dicom_files import (
    axial_geometry,
    phantom,
    write_dicom_series,
    write_multi_frame,
    write_report,
)

HU = phantom((4, 6, 8))
GEOMETRY = axial_geometry(HU.shape)


def test_a_slice(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path, HU, GEOMETRY, number=7, thickness=1.25, bits=12)
    (item,) = read_headers(files[2:3]).slices
    assert (item.path, item.frame, item.number, item.kind) == (files[2], None, 7, "")
    assert item.size == (8, 6)
    assert item.position == (-100, -120, 46)
    assert item.orientation == (1, 0, 0, 0, 1, 0)
    assert item.spacing == (0.8, 0.8)
    assert (item.thickness, item.slope, item.intercept) == (1.25, 1, -1024)
    assert (item.bits, item.signed, item.problem) == ((12, 11), False, "")


def test_frames(tmp_path: Path) -> None:
    path = write_multi_frame(tmp_path / "a", HU, GEOMETRY)
    slices = read_headers([path]).slices
    assert [item.frame for item in slices] == [0, 1, 2, 3]
    assert [item.position[2] for item in slices if item.position] == [50, 48, 46, 44]
    assert slices[1].label == "a (frame 2)"


def test_frames_that_are_not_described_are_damage(tmp_path: Path) -> None:
    path = write_multi_frame(tmp_path / "a", HU, GEOMETRY, tags={"NumberOfFrames": 1_000_000})
    headers = read_headers([path])
    assert not headers.slices
    assert "it has 1000000 frames and describes 4" in headers.damaged[path]


def test_frames_of_other_objects_are_one(tmp_path: Path) -> None:
    path = write_multi_frame(tmp_path / "a", HU, GEOMETRY, sop_class=MRImageStorage)
    assert [item.kind for item in read_headers([path]).slices] == ["MR Image"]


def test_what_is_not_dicom_is_set_aside(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "empty").touch()
    headers = read_headers(files_below(tmp_path))
    assert len(headers.slices) == 4
    assert {path.name for path in headers.strangers} == {"notes.txt", "empty"}
    assert not headers.damaged


def test_a_directory_of_dicom_is_no_slice(tmp_path: Path) -> None:
    files = FileSet()
    for path in write_dicom_series(tmp_path / "a", HU, GEOMETRY):
        files.add(path)
    files.write(tmp_path / "b")
    assert (tmp_path / "b" / "DICOMDIR").is_file()
    headers = read_headers(files_below(tmp_path / "b"))
    assert len(headers.slices) == 4
    assert not headers.strangers
    assert not headers.damaged


def test_objects_without_image_are_told(tmp_path: Path) -> None:
    (item,) = read_headers([write_report(tmp_path / "a.dcm")]).slices
    assert (item.kind, item.modality) == ("X-Ray Radiation Dose SR", "SR")


@pytest.mark.parametrize("length", [0, 200, 500])
def test_what_is_dicom_but_damaged_is_named(tmp_path: Path, length: int) -> None:
    path = write_dicom_series(tmp_path, HU, GEOMETRY)[1]
    path.write_bytes(path.read_bytes()[:length])
    headers = read_headers(files_below(tmp_path))
    assert list(headers.damaged) == [path]
    assert str(path) in headers.damaged[path]
    assert "copy it again" in headers.damaged[path]


def test_a_value_that_is_no_number(tmp_path: Path) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.PixelSpacing = [0.8, 0.8, 0.8]

    item = read_headers(write_dicom_series(tmp_path, HU, GEOMETRY, edit=edit)).slices[0]
    assert "has a damaged header: PixelSpacing must be 2 numbers" in item.problem


def test_files_without_preamble(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path, HU, GEOMETRY)
    for path in files:
        path.write_bytes(path.read_bytes()[132:])
    assert len(read_headers(files).slices) == 4


def test_a_name_in_an_unknown_character_set_does_no_harm(tmp_path: Path) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 999"

    with pytest.warns(UserWarning, match="Unknown encoding"):
        files = write_dicom_series(tmp_path, HU, GEOMETRY, edit=edit)
    assert len(read_headers(files).slices) == 4
