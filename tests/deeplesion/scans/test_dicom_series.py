"""Tests of listing and choosing series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import MRImageStorage

from deeplesion.scans import Geometry, ScanError, list_series, read_scan
from tests.deeplesion.scans.dicom_files import (
    axial_geometry,
    phantom,
    write_dicom_series,
    write_report,
)
from tests.deeplesion.scans.helpers import complaint

HU = phantom((6, 8, 10))
GEOMETRY = axial_geometry(HU.shape)
CORONAL = Geometry(
    np.zeros(3), np.ones(3), np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), (10, 8, 6)
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study as it comes from a scanner: three reconstructions, scout, reformat, MR, report."""
    folder = tmp_path_factory.mktemp("study")

    def write(number: int, hu: np.ndarray = HU, geometry: Geometry = GEOMETRY, **options) -> None:
        write_dicom_series(
            folder / f"s{number}",
            hu,
            geometry,
            number=number,
            series_uid=f"1.9.{number}",
            **options,
        )

    write(2, thickness=5.0, description="Doe 5.0 B30f")
    write(3, thickness=1.5)
    write(12, thickness=1.5)
    write(4, hu=HU[:4], thickness=0.6)
    write(1, hu=HU[:2], image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    write(5, geometry=CORONAL)
    write(6, modality="MR", sop_class=MRImageStorage)
    write_report(folder / "report.dcm")
    return folder


def test_lists_what_can_be_read_first(study: Path) -> None:
    found = list_series(study)
    assert [info.number for info in found[:5]] == [3, 12, 2, 4, 5]
    assert [bool(info.problem) for info in found] == [False] * 4 + [True] * 4
    best, coronal = found[0], found[4]
    assert (best.uid, best.modality, best.kind, best.slices) == ("1.9.3", "CT", "CT", 6)
    assert (best.size, best.spacing, best.slice_interval) == ((10, 8), (0.8, 0.8), 2.0)
    assert (best.thickness, best.orientation) == (1.5, "axial")
    assert coronal.orientation == "coronal"
    assert "the slices are coronal" in coronal.problem
    kinds = {info.number: info.kind for info in found}
    assert kinds[1] == "localizer"
    assert kinds[6] == "MR Image"
    assert kinds[999] == "X-Ray Radiation Dose SR"


def test_takes_the_best_and_names_the_others(study: Path) -> None:
    scan = read_scan(study)
    assert scan.identity["SeriesInstanceUID"] == "1.9.3"
    assert scan.name == f"{study.name}_series3"
    (warning,) = scan.warnings
    assert warning.startswith(
        "took series 3 (6 axial slices, 2 mm apart); choose another by series"
    )
    assert "series 2 (6 axial slices" in warning
    assert "series 5 (6 coronal slices), not readable" in warning
    # What a series is called may name the patient, and warnings go into outputs.
    assert "Doe" not in warning


@pytest.mark.parametrize(
    ("series", "uid"), [(2, "1.9.2"), ("4", "1.9.4"), ("1.9.2", "1.9.2"), ("1.9.12", "1.9.12")]
)
def test_chooses_by_number_or_uid(study: Path, series: str | int, uid: str) -> None:
    scan = read_scan(study, series)
    assert scan.identity["SeriesInstanceUID"] == uid
    assert scan.warnings == ()


def test_chooses_by_the_beginning_of_a_uid(study: Path) -> None:
    assert read_scan(study, "1.9.12").hu.shape == HU.shape
    text = complaint(study, series="1.9")
    assert "series 1.9 is not one" in text
    assert "1.9.2 is series 2 (6 axial slices, 2 mm apart)" in text


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ("99", "there is no series 99; there is series 3 "),
        ("", "there is no series "),
        (1, "series 1 (2 x localizer) is no CT"),
        (6, "series 6 (6 x MR Image) is no CT"),
        (5, "series 5 (6 coronal slices): the slices are coronal"),
    ],
)
def test_refuses_what_cannot_be_chosen(study: Path, series: str | int, message: str) -> None:
    assert message in complaint(study, series=series)


def test_scouts_in_the_same_series_are_left_out(tmp_path: Path) -> None:
    write_dicom_series(tmp_path, HU, GEOMETRY, series_uid="1.9.1")
    scout = ("ORIGINAL", "PRIMARY", "LOCALIZER")
    write_dicom_series(tmp_path, HU[:1], CORONAL, series_uid="1.9.1", image_type=scout, prefix="SC")
    scan = read_scan(tmp_path, "1.9.1")
    assert np.array_equal(scan.hu, HU)
    assert scan.warnings == ()


def test_says_what_there_is_where_there_is_no_ct(study: Path) -> None:
    text = complaint(study / "s6")
    assert "there is no CT in it (found: 6 x MR Image)" in text
    assert "there is no CT in it (found: 2 x localizer)" in complaint(study / "s1")


def test_says_why_none_of_several_can_be_read(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", HU, CORONAL, number=1)
    write_dicom_series(tmp_path / "b", HU, GEOMETRY, number=2, tilt=9)
    text = complaint(tmp_path)
    assert "the slices are coronal" in text
    assert "series 2 (6 axial slices): the gantry was tilted by 9.0 degrees" in text


def test_refuses_to_list_what_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="holds no DICOM series"):
        list_series(tmp_path)
    with pytest.raises(ScanError, match="is not a folder"):
        list_series(tmp_path / "none")


def test_series_of_one_number_are_told_by_their_uid(tmp_path: Path) -> None:
    write_dicom_series(tmp_path / "a", HU, GEOMETRY, number=3, series_uid="1.9.101")
    write_dicom_series(tmp_path / "b", HU[:5], GEOMETRY, number=3, series_uid="1.9.102")
    assert "series 3 is not one: 1.9.101 is series 3" in complaint(tmp_path, series=3)
    scan = read_scan(tmp_path, "1.9.102")
    assert len(scan.hu) == 5
    assert scan.name == f"{tmp_path.name}_series102"
