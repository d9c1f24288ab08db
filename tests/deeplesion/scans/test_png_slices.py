"""Tests of DeepLesion's folders of PNG slices."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.scans import read_scan
from tests.deeplesion.scans.dicom_files import phantom
from tests.deeplesion.scans.helpers import complaint

HU = phantom((4, 6, 8))
SPACING = (0.8, 0.75, 2.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Slices 9 to 12 of a series in DeepLesion's layout, without ``DL_info.csv``."""
    folder = tmp_path / "data" / "Images_png" / "000001_02_03"
    folder.mkdir(parents=True)
    for number, plane in enumerate(HU, start=9):
        write(folder / f"{number:03d}.png", plane)
    return folder


def write(path: Path, hu: np.ndarray) -> None:
    """Write a slice as DeepLesion does."""
    cv2.imwrite(str(path), (hu.astype(np.int32) + 32768).astype(np.uint16))


def info_of(folder: Path, spacing: str, series: str = "000001_02_03") -> None:
    """Write the two columns of ``DL_info.csv`` that matter."""
    rows = f'000009_01_01_001.png,"9, 9, 9"\n{series}_010.png,"{spacing}"\n'
    (folder.parents[1] / "DL_info.csv").write_text(f"File_name,Spacing_mm_px_\n{rows}")


def test_spacing_given(folder: Path) -> None:
    scan = read_scan(folder, spacing=SPACING)
    assert np.array_equal(scan.hu, HU)
    assert (scan.name, scan.format, scan.hu.dtype) == ("000001_02_03", "DeepLesion", np.int16)
    assert scan.geometry.spacing.tolist() == list(SPACING)
    assert scan.geometry.size == (8, 6, 4)
    # As stored: to the left, to posterior, to the feet; heights count from slice number 0.
    assert scan.geometry.to_patient([1, 1, 1]).tolist() == pytest.approx([0.8, 0.75, -25])
    assert scan.stored is scan.geometry
    assert [path.name for path in scan.files] == ["009.png", "010.png", "011.png", "012.png"]
    assert (scan.warnings, scan.identity) == ((), {})


def test_spacing_of_the_csv_above(folder: Path) -> None:
    info_of(folder, "0.488281, 0.488281, 5")
    assert read_scan(folder).geometry.spacing.tolist() == [0.488281, 0.488281, 5]


def test_files_given(folder: Path) -> None:
    files = [folder / "012.png", folder / "010.png", folder / "011.png"]
    assert np.array_equal(read_scan(files, spacing=SPACING).hu, HU[1:])


def test_refuses_unknown_spacing_with_the_remedy(folder: Path) -> None:
    text = complaint(folder)
    assert "there is no DL_info.csv above it" in text
    assert "give spacing=(x, y, z) in mm (--spacing X Y Z)" in text
    info_of(folder, "1, 1, 5", series="000002_01_01")
    assert "has no row of 000001_02_03; give spacing" in complaint(folder)
    info_of(folder, "1, ?")
    assert "has spacing '1, ?' for 000001_02_03; give spacing" in complaint(folder)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, 1, -5), (1, 1, float("nan"))])
def test_refuses_impossible_spacing(folder: Path, spacing: tuple[float, float, float]) -> None:
    assert "spacing must be > 0 mm" in complaint(folder, spacing=spacing)


def test_refuses_too_few_numbers(folder: Path) -> None:
    assert "spacing must be 3 numbers (x, y, z)" in complaint(folder, spacing=(1, 1))


def test_the_longest_run_is_taken(folder: Path) -> None:
    write(folder / "020.png", HU[0])
    write(folder / "021.png", HU[1])
    scan = read_scan(folder, spacing=SPACING)
    assert np.array_equal(scan.hu, HU)
    assert scan.warnings == (
        "the numbers of the slices have gaps; 9-12 were taken, not 20-21: give those files to "
        "read them",
    )
    other = read_scan([folder / "020.png", folder / "021.png"], spacing=SPACING)
    # Both runs are where they were in the series.
    assert other.geometry.origin[2] - scan.geometry.origin[2] == pytest.approx(-11 * 2.5)


def test_other_files_are_skipped(folder: Path) -> None:
    (folder / "notes.txt").write_text("notes")
    scan = read_scan(folder, spacing=SPACING)
    assert scan.warnings == ("files that are no numbered PNG were skipped: 1",)


def test_refuses_slices_that_are_none(folder: Path) -> None:
    write(folder / "010.png", HU[0, :3])
    assert "010.png must have 6 x 8 px" in complaint(folder, spacing=SPACING)
    cv2.imwrite(str(folder / "010.png"), np.zeros((6, 8), np.uint8))
    assert "010.png must be a 16-bit gray PNG" in complaint(folder, spacing=SPACING)
    (folder / "010.png").write_bytes((folder / "009.png").read_bytes()[:-30])
    assert "truncated" in complaint(folder, spacing=SPACING)


def test_refuses_single_slices_and_several_folders(folder: Path) -> None:
    assert "got 1 slice" in complaint(folder / "009.png", spacing=SPACING)
    shutil.copytree(folder, folder.with_name("000001_02_04"))
    assert "PNG slices of several folders" in complaint(folder.parent, spacing=SPACING)
    (folder / "named.png").write_bytes((folder / "009.png").read_bytes())
    assert "no PNG is named by its number" in complaint(folder / "named.png", spacing=SPACING)


def test_real_slices(shared_data: Path, tmp_path: Path) -> None:
    # Only key slices are there, so two of them are made neighbors.
    root = shared_data / "deeplesion_mini"
    folder = tmp_path / "Images_png" / "000001_02_01"
    folder.mkdir(parents=True)
    shutil.copy(root / "DL_info.csv", tmp_path)
    shutil.copy(root / "Images_png" / "000001_02_01" / "014.png", folder / "014.png")
    shutil.copy(root / "Images_png" / "000001_02_01" / "017.png", folder / "015.png")
    scan = read_scan(folder)
    assert scan.hu.shape == (2, 512, 512)
    assert scan.slice_interval == 5
    assert -1100 < scan.hu.min() < -900
