"""Tests of DICOM series as scans, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from pydicom import DataElement
from pydicom.dataset import Dataset

from deeplesion.scans import Geometry, read_scan
from deeplesion.scans.itk_files import geometry_of
from tests.deeplesion.scans.dicom_files import (
    axial_geometry,
    phantom,
    write_dicom_series,
    write_multi_frame,
    write_report,
)
from tests.deeplesion.scans.helpers import complaint, image_of

HU = phantom()
GEOMETRY = axial_geometry(HU.shape)


def lies(
    columns: tuple[float, ...], rows: tuple[float, ...], slices: tuple[float, ...]
) -> Geometry:
    """Geometry whose columns, rows and slices run in these directions, in LPS."""
    direction = np.array([columns, rows, slices], np.float64).T
    spacing, origin = np.array([0.7, 0.8, 2.5]), np.array([11.5, -22.25, 33.0])
    return Geometry(origin, spacing, direction, (20, 16, 12))


def test_a_shuffled_series(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "Jane Doe", HU, GEOMETRY, thickness=5.0)
    assert [path.name for path in files] != sorted(path.name for path in files)
    scan = read_scan(tmp_path / "Jane Doe")
    assert np.array_equal(scan.hu, HU)
    assert (scan.name, scan.format, scan.hu.dtype) == ("Jane_Doe", "DICOM", np.int16)
    assert (scan.slice_interval, scan.thickness) == (2.0, 5.0)
    assert scan.files == tuple(files)
    assert (scan.warnings, scan.frames, scan.interpolated) == ((), (), ())
    for name in ("origin", "spacing", "direction", "size"):
        assert np.allclose(getattr(scan.geometry, name), getattr(GEOMETRY, name)), name


@pytest.mark.parametrize(
    "geometry",
    [
        lies((1, 0, 0), (0, 1, 0), (0, 0, -1)),
        lies((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
        lies((1, 0, 0), (0, -1, 0), (0, 0, 1)),
        lies((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
        lies((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
        lies((0, -1, 0), (-1, 0, 0), (0, 0, -1)),
        lies((0.995004, 0.099833, 0), (-0.099833, 0.995004, 0), (0, 0, 1)),
        lies((1, 0, 0), (0, 0.990268, 0.139173), (0, 0.139173, -0.990268)),
    ],
    ids=["supine", "prone", "flipped", "mirrored", "right", "left", "turned", "slanted"],
)
def test_stored_and_turned_as_simpleitk_has_them(tmp_path: Path, geometry: Geometry) -> None:
    write_dicom_series(tmp_path, HU, geometry)
    scan = read_scan(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    for name in ("origin", "spacing", "direction", "size"):
        found = getattr(geometry_of(image), name)
        assert np.allclose(getattr(scan.stored, name), found, atol=1e-5), name
    turned = SimpleITK.DICOMOrient(image, "LPI")
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(turned))
    position = geometry.to_patient([3, 5, 7])
    column, row, level = np.rint(scan.geometry.to_voxels(position)).astype(int)
    assert scan.hu[level, row, column] == HU[7, 5, 3]
    assert np.allclose(scan.geometry.to_patient([column, row, level]), position, atol=1e-4)


def test_a_missing_slice_is_the_mean_of_its_neighbors(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path, HU, GEOMETRY, missing=[4])
    scan = read_scan(tmp_path)
    mean = (HU[3].astype(float) + HU[5]) / 2
    assert np.abs(scan.hu[4] - mean).max() <= 0.5
    assert np.array_equal(np.delete(scan.hu, 4, axis=0), np.delete(HU, 4, axis=0))
    assert scan.interpolated == (4,)
    assert len(scan.files) == 12
    assert scan.files[4] in (files[3], files[4])
    assert scan.warnings == ("slices that are missing were interpolated linearly: 1 of 12",)
    assert np.allclose(scan.geometry.matrix, GEOMETRY.matrix)


def test_a_large_gap_is_refused(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY, missing=[4, 5, 6, 7, 8])
    assert "a gap of 12 mm where they are 2 mm apart" in complaint(tmp_path)


def test_doubled_slices(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY, doubled=[3, 3, 5])
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.hu, HU)
    assert len(scan.files) == 12
    assert scan.warnings == ("slices that were there twice were dropped: 3",)


def test_two_acquisitions_in_one_series(tmp_path: Path) -> None:
    options: dict[str, Any] = {"series_uid": "1.9.1"}
    first = {"prefix": "A", "tags": {"AcquisitionNumber": 1}}
    second = {"prefix": "B", "tags": {"AcquisitionNumber": 2}}
    write_dicom_series(tmp_path, HU[:11] + 1, axial_geometry((11, 16, 20)), **options, **first)
    write_dicom_series(tmp_path, HU, GEOMETRY, **options, **second)
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.hu, HU)
    assert "those of AcquisitionNumber 2 (12) were taken, not those of 1 (11)" in scan.warnings[0]


def test_different_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY, series_uid="1.9.1", prefix="A")
    write_dicom_series(tmp_path, HU + 1, GEOMETRY, series_uid="1.9.1", prefix="B")
    assert "different slices at one position" in complaint(tmp_path)


def test_frames_in_one_file(tmp_path: Path) -> None:
    path = write_multi_frame(tmp_path / "a.dcm", HU[::-1], GEOMETRY)
    scan = read_scan(path)
    assert np.array_equal(scan.hu, HU[::-1])
    assert (scan.name, scan.files, scan.frames) == ("a", (path,), tuple(range(1, 13)))
    assert scan.thickness == 5.0


@pytest.mark.parametrize("turned", [False, True])
def test_frames_in_either_order_with_one_missing(tmp_path: Path, turned: bool) -> None:
    upward = Geometry(GEOMETRY.to_patient([0, 0, 11]), GEOMETRY.spacing, np.eye(3), GEOMETRY.size)
    if turned:
        write_multi_frame(tmp_path / "a", HU[::-1], upward, missing=[3])
    else:
        write_multi_frame(tmp_path / "a", HU, GEOMETRY, missing=[8])
    scan = read_scan(tmp_path)
    assert np.array_equal(np.delete(scan.hu, 8, axis=0), np.delete(HU, 8, axis=0))
    assert scan.interpolated == (8,)
    assert sorted(set(scan.frames)) == list(range(1, 12))
    assert np.allclose(scan.geometry.origin, GEOMETRY.origin)
    assert np.allclose(scan.stored.direction, np.eye(3))


def test_frames_lie_where_simpleitk_sees_them(tmp_path: Path) -> None:
    upward = Geometry(np.array([1.0, 2, 3]), np.array([0.8, 0.8, 2]), np.eye(3), (20, 16, 12))
    path = write_multi_frame(tmp_path / "a.dcm", HU, upward)
    image = SimpleITK.ReadImage(str(path))
    stored = read_scan(path).stored
    for name in ("origin", "spacing", "direction", "size"):
        assert np.allclose(getattr(stored, name), getattr(geometry_of(image), name)), name


def test_fractions_of_hu(tmp_path: Path) -> None:
    hu = HU + np.float32(0.5)
    write_dicom_series(tmp_path / "a", hu, GEOMETRY, slope=0.5)
    scan = read_scan(tmp_path / "a")
    assert scan.hu.dtype == np.float32
    assert np.array_equal(scan.hu, hu)
    write_dicom_series(tmp_path / "b", HU, GEOMETRY, slope=0.5)
    assert read_scan(tmp_path / "b").hu.dtype == np.int16


def test_rescaling_that_changes_from_slice_to_slice(tmp_path: Path) -> None:
    def edit(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, np.uint16) + index
        dataset.PixelData = values.astype(np.uint16).tobytes()
        dataset.RescaleIntercept = -1024 - index

    write_dicom_series(tmp_path, HU, GEOMETRY, edit=edit)
    assert np.array_equal(read_scan(tmp_path).hu, HU)


def test_identity_is_kept_apart(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", HU, GEOMETRY, description="Doe chest", missing=[4])
    (tmp_path / "a" / "Doe.txt").write_text("notes")
    scan = read_scan(tmp_path / "a")
    assert scan.identity["PatientName"] == "Doe^Jane"
    assert scan.identity["PatientID"] == "4711"
    assert scan.identity["SeriesDescription"] == "Doe chest"
    assert {"PatientBirthDate", "StudyDate", "InstitutionName", "AccessionNumber"} < set(
        scan.identity
    )
    assert len(scan.warnings) == 2
    assert "Doe" not in " ".join(scan.warnings)


def test_what_lies_beside_the_series_is_skipped(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "deep" / "down", HU, GEOMETRY)
    (tmp_path / "readme.txt").write_text("notes")
    (tmp_path / "deep" / "Thumbs.db").touch()
    write_report(tmp_path / "report")
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.hu, HU)
    assert scan.warnings == ("files that are not DICOM were skipped: 2",)


def test_a_damaged_slice_is_an_error_that_names_it(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path, HU, GEOMETRY)
    whole = files[5].read_bytes()
    for length in (0, 300, len(whole) - 100):
        files[5].write_bytes(whole[:length])
        text = complaint(tmp_path)
        assert str(files[5]) in text
        assert "copy it again" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tilt": 7.5}, "the gantry was tilted by 7.5 degrees"),
        ({"modality": "PT"}, "there is no CT in it (found: 12 x PT image)"),
        ({"intercept": 0.0, "signed": True, "tags": {"RescaleIntercept": 2000}}, "not in HU"),
        ({"tags": {"ImagePositionPatient": None}}, "has no ImagePositionPatient"),
        ({"tags": {"PixelSpacing": [0, 0]}}, "PixelSpacing must be > 0 mm"),
        ({"tags": {"RescaleType": "Z_EFF"}}, "is in Z_EFF, not in HU"),
        ({"missing": range(1, 12)}, "got 1 slice"),
    ],
)
def test_refuses_by_name(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY, **options)
    text = complaint(tmp_path)
    assert text.startswith(str(tmp_path))
    assert message in text


def test_doubtful_padding_is_told(tmp_path: Path) -> None:
    def zero(dataset: Dataset, index: int) -> None:
        dataset.add(DataElement(0x00280120, "SS", 0))

    hu = np.where(np.arange(20) < 4, 0, HU).astype(np.int16)
    write_dicom_series(tmp_path, hu, GEOMETRY, signed=True, intercept=0, edit=zero)
    scan = read_scan(tmp_path)
    assert np.array_equal(scan.hu, hu)
    assert "PixelPaddingValue" in scan.warnings[0]


@pytest.mark.parametrize("name", ["torso_3mm", "thorax_1.5mm"])
def test_real_volumes_by_way_of_dicom(shared_data: Path, tmp_path: Path, name: str) -> None:
    expected = read_scan(shared_data / "ct" / f"{name}.nii.gz")
    files = write_dicom_series(
        tmp_path, expected.hu, expected.geometry, signed=True, intercept=0, compression="JPEG-LS"
    )
    scan = read_scan(files)
    assert np.array_equal(scan.hu, expected.hu)
    assert np.allclose(scan.geometry.origin, expected.geometry.origin, atol=1e-6)
    assert np.allclose(scan.geometry.matrix, expected.geometry.matrix, atol=1e-6)
    assert image_of(scan.hu, scan.geometry).GetSize() == expected.geometry.size
