"""Tests of finding what else a scan is read from."""

from __future__ import annotations

from pathlib import Path

import pytest
import SimpleITK

from deeplesion.scans.companions import companions
from tests.deeplesion.scans.dicom_files import phantom
from tests.deeplesion.scans.helpers import write_image

HU = phantom((4, 5, 6))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mhd", ["a.raw"]),
        ("a.nhdr", ["a.raw"]),
        ("a.mha", []),
        ("a.nrrd", []),
        ("a.nii.gz", []),
    ],
)
def test_voxels_as_itk_writes_them(tmp_path: Path, name: str, expected: list[str]) -> None:
    path = write_image(tmp_path / name, HU)
    assert [found.name for found in companions([path])] == expected


def test_the_other_file_of_a_pair(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(HU)
    SimpleITK.WriteImage(image, str(tmp_path / "a.hdr"), imageIO="NiftiImageIO")
    assert companions([tmp_path / "a.hdr"]) == [tmp_path / "a.img"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = LIST\nv1.raw\nv2.raw\n"),
        ("a.mhd", "NDims = 3\r\nElementDataFile = v%d.raw 1 2 1\r\n"),
        ("a.nhdr", "NRRD0004\ndata file: LIST\nv1.raw\nv2.raw\n"),
        ("a.nhdr", "NRRD0004\ndatafile: v%01d.raw 1 2 1\nencoding: raw\n"),
    ],
)
def test_voxels_in_several_files(tmp_path: Path, name: str, text: str) -> None:
    for file in ("v1.raw", "v2.raw", "other.raw"):
        (tmp_path / file).touch()
    (tmp_path / name).write_text(text, newline="")
    assert companions([tmp_path / name]) == [tmp_path / "v1.raw", tmp_path / "v2.raw"]


@pytest.mark.parametrize("text", ["", "data file:", "data file: gone.raw", "data file: \0"])
def test_names_of_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.nhdr").write_text(text)
    assert companions([tmp_path / "a.nhdr"]) == []


def test_the_table_above_slices(tmp_path: Path) -> None:
    slices = tmp_path / "Images_png/000001_01_01"
    slices.mkdir(parents=True)
    assert companions([slices / "001.png"]) == []
    (tmp_path / "DL_info.csv").touch()
    assert companions([slices / "001.png", slices / "002.png"]) == [tmp_path / "DL_info.csv"]
