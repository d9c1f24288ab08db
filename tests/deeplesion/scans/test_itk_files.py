"""Tests of NIfTI, MetaImage and NRRD."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.scans import Geometry, read_scan
from deeplesion.scans.orientation import Turn
from tests.deeplesion.scans.dicom_files import phantom
from tests.deeplesion.scans.helpers import (
    AXIS_ORDERS,
    complaint,
    image_of,
    turned_geometry,
    write_image,
)

FORMATS = {
    "nii": "NIfTI",
    "nii.gz": "NIfTI",
    "mha": "MetaImage",
    "mhd": "MetaImage",
    "nrrd": "NRRD",
    "nhdr": "NRRD",
}


@pytest.mark.parametrize("suffix", ["nii.gz", "mha", "nrrd"])
@pytest.mark.parametrize(("order", "signs"), AXIS_ORDERS)
def test_a_voxel_is_where_it_was(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...], suffix: str
) -> None:
    stored = turned_geometry(order, signs)
    voxels = phantom((7, 6, 5))
    scan = read_scan(write_image(tmp_path / f"a.{suffix}", voxels, stored))
    assert scan.format == FORMATS[suffix]
    assert scan.geometry.size == scan.hu.shape[::-1]
    assert np.allclose(scan.geometry.direction, np.diag([1, 1, -1]))
    for x, y, z in [(0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 0, 5)]:
        position = stored.to_patient([x, y, z])
        column, row, level = np.rint(scan.geometry.to_voxels(position)).astype(int)
        assert scan.hu[level, row, column] == voxels[z, y, x]
        assert np.allclose(scan.geometry.to_patient([column, row, level]), position, atol=1e-4)
        assert np.allclose(
            scan.to_stored_voxels(np.array([column, row, level])), [x, y, z], atol=1e-4
        )


@settings(max_examples=25, deadline=None)
@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3),
    angle=st.floats(-14, 14),
    turn=st.sampled_from(AXIS_ORDERS),
)
def test_a_slanted_scan_is_exact(
    tmp_path_factory: pytest.TempPathFactory, axis: Any, angle: float, turn: Any
) -> None:
    straight = turned_geometry(*turn)
    length = float(np.linalg.norm(axis))
    rotation = SimpleITK.VersorTransform(axis if length > 0.1 else (0, 0, 1), np.radians(angle))
    slanted = np.array(rotation.GetMatrix()).reshape(3, 3) @ straight.direction
    stored = Geometry(straight.origin, straight.spacing, slanted, straight.size)
    path = tmp_path_factory.getbasetemp() / "slanted.nrrd"
    voxels = phantom((7, 6, 5))
    scan = read_scan(write_image(path, voxels, stored))
    assert np.array_equal(scan.hu, Turn.of(straight).apply(voxels))
    position = stored.to_patient([1, 2, 3])
    assert np.allclose(
        scan.geometry.to_patient(scan.geometry.to_voxels(position)), position, atol=1e-4
    )
    assert np.allclose(scan.to_stored_voxels(scan.geometry.to_voxels(position)), [1, 2, 3])


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_under_its_name(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / f"Jane Doe.{suffix}", phantom())
    scan = read_scan(path)
    assert np.array_equal(scan.hu, phantom()[::-1])
    assert (scan.name, scan.format, scan.files) == ("Jane_Doe", FORMATS[suffix], (path,))
    assert np.isnan(scan.thickness)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("a.nii", "b.nii.gz"),
        ("a.nii.gz", "b.nii"),
        ("a.nii", "b.mha"),
        ("a.mha", "b.nii"),
        ("a.nrrd", "b.dat"),
        ("a.nii.gz", "b"),
        ("a.nii", "B.Nii"),
        ("a.nii.gz", "B.NII.GZ"),
        ("a.mha", "B.MHA"),
    ],
)
def test_a_wrong_or_odd_name_is_no_hindrance(tmp_path: Path, written: str, named: str) -> None:
    path = write_image(tmp_path / written, phantom()).rename(tmp_path / named)
    assert np.array_equal(read_scan(path).hu, phantom()[::-1])


def test_a_name_that_is_not_utf8_is_no_hindrance(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii", phantom())
    path = path.rename(tmp_path / os.fsdecode(b"M\xfcller.nii"))
    scan = read_scan(path)
    assert np.array_equal(scan.hu, phantom()[::-1])
    assert scan.name == "M_ller"


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_whole_numbers_are_kept_as_int16(tmp_path: Path, dtype: Any) -> None:
    scan = read_scan(write_image(tmp_path / "a.nii", phantom().astype(dtype)))
    assert scan.hu.dtype == np.int16
    assert np.array_equal(scan.hu, phantom()[::-1])
    assert scan.hu.flags.c_contiguous
    assert scan.hu.flags.writeable


def test_fractions_are_kept_as_float32(tmp_path: Path) -> None:
    values = phantom().astype(np.float32) + np.float32(0.25)
    scan = read_scan(write_image(tmp_path / "a.nii", values))
    assert scan.hu.dtype == np.float32
    assert np.array_equal(scan.hu, values[::-1])


def test_one_volume_in_four_dimensions_is_read(tmp_path: Path) -> None:
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(phantom())])
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii"))
    assert np.array_equal(read_scan(tmp_path / "a.nii").hu, phantom()[::-1])


def test_refuses_several_volumes(tmp_path: Path) -> None:
    image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(phantom())] * 3)
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii"))
    assert "it has 3 volumes (4-D), a scan is one; split it" in complaint(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "nii"])
def test_refuses_color(tmp_path: Path, suffix: str) -> None:
    channel = SimpleITK.GetImageFromArray(phantom().astype(np.uint8))
    path = tmp_path / f"a.{suffix}"
    SimpleITK.WriteImage(SimpleITK.Compose([channel] * 3), str(path))
    assert "it has 3 values per voxel (color" in complaint(path)


@pytest.mark.parametrize("values", [phantom()[:1], phantom()[0]])
@pytest.mark.parametrize("suffix", ["nii", "mha"])
def test_refuses_a_single_slice(tmp_path: Path, suffix: str, values: Any) -> None:
    assert "got 1 slice" in complaint(write_image(tmp_path / f"a.{suffix}", values))


def test_one_axial_slice_is_one_however_it_is_stored(tmp_path: Path) -> None:
    stored = turned_geometry((2, 0, 1), (1, 1, 1), size=(1, 6, 7))
    assert "got 1 slice" in complaint(write_image(tmp_path / "a.nii", phantom((7, 6, 1)), stored))


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii"])
def test_refuses_nan(tmp_path: Path, suffix: str) -> None:
    values = phantom().astype(np.float32)
    values[0, 0, :2] = np.nan
    assert "2 of 3840 voxels are NaN" in complaint(write_image(tmp_path / f"a.{suffix}", values))


def test_masks_and_raw_values_are_refused_unless_asked_for(tmp_path: Path) -> None:
    mask = write_image(tmp_path / "mask.nii", (phantom() > 0).astype(np.uint8))
    raw = write_image(tmp_path / "raw.nii", (phantom() + 1024).astype(np.uint16))
    assert complaint(mask).startswith(f"{mask}: it looks like a mask")
    assert "HU + 1024?" in complaint(raw)
    assert read_scan(mask, check_hu=False).hu.max() == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 0 1", "must be > 0 mm, got 1 0 1"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 -1", "must be > 0 mm, got 1 1 -1"),
        ("Offset = 0 0 0", "Offset = 0 nan 0", "Offset must be finite, got 0 nan 0"),
        ("Offset = 0 0 0", "Offset = 0 x 0", "Offset must be finite, got 0 x 0"),
        ("= 1 0 0 0 1 0 0 0 1", "= 1 0.2 0 0 1 0 0 0 1", "not at right angles"),
    ],
)
def test_refuses_impossible_meta_images(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_image(tmp_path / "a.mha", phantom())
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    assert message in complaint(path)


def test_refuses_impossible_nrrd(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nrrd", phantom())
    path.write_bytes(path.read_bytes().replace(b"(0,0,1)", b"(0,0,0)"))
    assert "spacing must be > 0 mm" in complaint(path)


def test_warns_of_nrrd_without_orientation(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nrrd", phantom())
    content = path.read_bytes().replace(b"space: left-posterior-superior\n", b"")
    content = content.replace(b"space directions: (1,0,0) (0,1,0) (0,0,1)", b"spacings: 1 1 1")
    path.write_bytes(content.replace(b"space origin: (0,0,0)\n", b""))
    (warning,) = read_scan(path).warnings
    assert "does not say how the patient lies" in warning


@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "mha", "nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_refuses_truncated_files(tmp_path: Path, suffix: str, packed: bool) -> None:
    path = tmp_path / f"a.{suffix}"
    geometry = turned_geometry((0, 1, 2), (1, 1, 1))
    SimpleITK.WriteImage(image_of(phantom((7, 6, 5)), geometry), str(path), packed)
    path.write_bytes(path.read_bytes()[:-60])
    text = complaint(path)
    assert text.startswith(str(path))
    assert "truncated" in text
    assert ".cxx" not in text


def test_refuses_a_header_without_its_data(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.mhd", phantom())
    (tmp_path / "a.raw").unlink()
    assert "cannot read it" in complaint(path)


@pytest.mark.parametrize(
    ("name", "size", "slice_interval"),
    [("torso_3mm", (122, 101, 112), 3.0), ("thorax_1.5mm", (122, 102, 112), 1.5)],
)
def test_real_volumes(
    shared_data: Path, name: str, size: tuple[int, ...], slice_interval: float
) -> None:
    path = shared_data / "ct" / f"{name}.nii.gz"
    scan = read_scan(path)
    expected = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPI")
    assert np.array_equal(scan.hu, SimpleITK.GetArrayFromImage(expected))
    assert np.allclose(scan.geometry.origin, expected.GetOrigin())
    assert (scan.geometry.size, scan.slice_interval) == (size, slice_interval)
    assert (scan.name, scan.hu.dtype, scan.warnings) == (name, np.int16, ())
