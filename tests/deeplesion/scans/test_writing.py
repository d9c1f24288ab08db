"""Tests of label maps in a scan's own geometry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from deeplesion.scans import Geometry, read_scan, write_labels
from deeplesion.scans.itk_files import geometry_of
from tests.deeplesion.scans.dicom_files import phantom, write_dicom_series
from tests.deeplesion.scans.helpers import AXIS_ORDERS, turned_geometry, write_image


def assert_on_each_other(labels: Any, image: Any) -> None:
    """Two images have the same voxels at the same places."""
    for name in ("size", "spacing", "origin", "direction"):
        found = getattr(geometry_of(labels), name), getattr(geometry_of(image), name)
        assert np.allclose(*found, atol=1e-5), name


@pytest.mark.parametrize(("order", "signs"), AXIS_ORDERS)
def test_labels_lie_on_the_file(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    voxels = phantom((7, 6, 5))
    path = write_image(tmp_path / "scan.nii.gz", voxels, turned_geometry(order, signs))
    scan = read_scan(path)
    write_labels(tmp_path / "labels.nii.gz", (scan.hu > 0).astype(np.uint8), scan)
    labels, image = (SimpleITK.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in ("labels", "scan"))
    assert_on_each_other(labels, image)
    assert np.array_equal(SimpleITK.GetArrayFromImage(labels), voxels > 0)


def test_labels_lie_on_a_slanted_series(tmp_path: Path) -> None:
    cos, sin = np.cos(np.radians(9)), np.sin(np.radians(9))
    direction = np.array([[1, 0, 0], [0, cos, sin], [0, sin, -cos]])
    hu = phantom((6, 8, 10))
    geometry = Geometry(np.array([3.0, 4, 5]), np.array([0.7, 0.7, 2]), direction, (10, 8, 6))
    write_dicom_series(tmp_path / "scan", hu, geometry)
    scan = read_scan(tmp_path / "scan")
    write_labels(tmp_path / "labels.nii.gz", (scan.hu > 0).astype(np.uint16), scan)
    labels = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz"))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "scan")))
    image = reader.Execute()
    assert_on_each_other(labels, image)
    assert labels.GetPixelID() == SimpleITK.sitkUInt16
    assert np.array_equal(
        SimpleITK.GetArrayFromImage(labels), SimpleITK.GetArrayFromImage(image) > 0
    )


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_leaves_nothing_but_the_file(tmp_path: Path, name: str) -> None:
    scan = read_scan(write_image(tmp_path / "scan.nii", phantom((4, 5, 6))))
    target = tmp_path / "out" / name
    for value in (False, True):
        write_labels(target, np.full(scan.hu.shape, value), scan)
        assert [path.name for path in target.parent.iterdir()] == [name]
        written = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(target)))
        assert np.all(written == value)
    packed = target.read_bytes()[:2] == b"\x1f\x8b"
    assert packed == name.lower().endswith(".gz")


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = read_scan(write_image(tmp_path / "scan.nii", phantom((4, 5, 6))))
    target = tmp_path / "out" / "a.nii.gz"
    write_labels(target, np.ones(scan.hu.shape, np.uint8), scan)
    before = target.read_bytes()

    def fail(image: Any, path: str, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(SimpleITK, "WriteImage", fail)
    with pytest.raises(OSError, match="disk full"):
        write_labels(target, np.zeros(scan.hu.shape, np.uint8), scan)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["a.nii.gz"]


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    scan = read_scan(write_image(tmp_path / "scan.nii", phantom((4, 5, 6))))
    fitting = np.zeros((4, 5, 6), np.uint8)
    with pytest.raises(ValueError, match=r"written as \.nii or \.nii\.gz, got a\.png"):
        write_labels(tmp_path / "a.png", fitting, scan)
    with pytest.raises(ValueError, match="must be UTF-8"):
        write_labels(tmp_path / os.fsdecode(b"\xfc.nii"), fitting, scan)
    with pytest.raises(ValueError, match=r"shape of scan\.hu \(4, 5, 6\), got \(5, 4, 6\)"):
        write_labels(tmp_path / "a.nii", np.zeros((5, 4, 6), np.uint8), scan)
    with pytest.raises(ValueError, match="uint8, uint16 or bool, got int64"):
        write_labels(tmp_path / "a.nii", fitting.astype(np.int64), scan)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii"]


def test_real_volumes(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "ct" / "torso_3mm.nii.gz"
    scan = read_scan(path)
    write_labels(tmp_path / "labels.nii.gz", scan.hu > 100, scan)
    labels, image = SimpleITK.ReadImage(str(tmp_path / "labels.nii.gz")), SimpleITK.ReadImage(path)
    assert_on_each_other(labels, image)
    bone = SimpleITK.GetArrayFromImage(image) > 100
    assert np.array_equal(SimpleITK.GetArrayFromImage(labels), bone)
    # What is planted in the turned scan is found at its place in the file's own geometry.
    labels = np.zeros(scan.hu.shape, np.uint8)
    labels[40, 50, 60] = 7
    write_labels(tmp_path / "one.nii.gz", labels, scan)
    one = SimpleITK.ReadImage(str(tmp_path / "one.nii.gz"))
    place = one.TransformPhysicalPointToIndex(scan.geometry.to_patient([60, 50, 40]).tolist())
    assert one[place] == 7
    assert np.allclose(scan.to_stored_voxels(np.array([60, 50, 40])), place, atol=1e-3)
