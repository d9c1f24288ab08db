"""Tests of reading whatever is given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplesion.scans import ScanError, read_scan
from deeplesion.scans.reading import format_of
from tests.deeplesion.scans.dicom_files import axial_geometry, phantom, write_dicom_series
from tests.deeplesion.scans.helpers import complaint, write_image

HU = phantom((4, 6, 8))


def test_text_paths_and_lists(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "a", HU, axial_geometry(HU.shape))
    for source in (str(tmp_path / "a"), tmp_path / "a", files, [str(path) for path in files]):
        scan = read_scan(source)
        assert np.array_equal(scan.hu, HU)
        assert scan.name == "a"


def test_a_name_for_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dicom_series(tmp_path / "Doe", HU, axial_geometry(HU.shape))
    monkeypatch.chdir(tmp_path / "Doe")
    assert read_scan(".").name == "Doe"


def test_names_are_those_of_links_not_of_what_they_lead_to(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "Doe", HU, axial_geometry(HU.shape))
    (tmp_path / "case1").symlink_to("Doe")
    assert read_scan(tmp_path / "case1").name == "case1"
    assert read_scan([tmp_path / "case1" / file.name for file in files]).name == "case1"


def test_dicom_goes_before_what_lies_beside_it(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, axial_geometry(HU.shape))
    write_image(tmp_path / "A.nii.gz", HU)
    assert read_scan(tmp_path).format == "DICOM"


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.nii") == f"{tmp_path / 'none.nii'} does not exist"
    assert "no files are given" in complaint([])
    assert "there is no file in it" in complaint(tmp_path)


def test_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    assert "it is not DICOM, NIfTI, MetaImage, NRRD" in complaint(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("hello")
    assert "none of its 2 files is DICOM" in complaint(tmp_path)
    (tmp_path / "empty.nii.gz").touch()
    assert complaint(tmp_path / "empty.nii.gz").endswith("is empty (0 bytes): copy it again")


def test_refuses_several_scans(tmp_path: Path) -> None:
    files = [write_image(tmp_path / name, HU) for name in ("a.nii", "b.nii")]
    assert "give the one file that is the scan" in complaint(tmp_path)
    assert "give the one file that is the scan" in complaint(files)
    assert "not several folders" in complaint([tmp_path, tmp_path])


def test_refuses_options_of_other_formats(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii", HU)
    assert "series chooses among DICOM series, this is NIfTI" in complaint(path, series="3")
    assert "spacing is for PNG slices, this is NIfTI" in complaint(path, spacing=(1, 1, 1))


def test_format_of_mixed_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    image = write_image(tmp_path / "b.mha", HU)
    assert format_of([tmp_path / "a", image]) == "MetaImage"
    with pytest.raises(ScanError, match="is empty"):
        format_of([tmp_path / "a"])


def test_importing_loads_no_reader() -> None:
    # Nor torch, without which the package itself is quickly imported.
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'mmdet', 'mmengine', 'mmcv']));"
        "import deeplesion.scans; print({'SimpleITK', 'pydicom'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
