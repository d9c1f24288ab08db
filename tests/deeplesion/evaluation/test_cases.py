"""Cases of records and of data infos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deeplesion.datasets.data_infos import info_of
from deeplesion.datasets.dl_info import group_by_key_slice, read_dl_info
from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.cases import (
    Case,
    canonical_name,
    cases_of_infos,
    cases_of_records,
    in_order,
    patient_of,
)
from tests.deeplesion.datasets.helpers import csv_row, row_of, write_csv


@pytest.fixture
def info_file(tmp_path: Path) -> Path:
    """Two key slices of two lesions and one, one of them out of order, and noisy rows."""
    rows = [
        row_of("000002_01_01", 7, split=3, Patient_gender="M", Patient_age="NaN"),
        row_of("000001_01_01", 5, split=3, Coarse_lesion_type=4),
        row_of("000001_01_01", 5, split=3, Bounding_boxes="1, 1, 9, 9"),
        row_of("000001_01_01", 5, split=3, Possibly_noisy=1),
        row_of("000003_01_01", 5, split=3, Possibly_noisy=1),
        row_of("000004_01_01", 5, split=2),
    ]
    return write_csv(tmp_path / "DL_info.csv", rows)


def test_records(info_file: Path) -> None:
    cases = cases_of_records(read_dl_info(info_file), "test")
    assert [case.file_name for case in cases] == ["000001_01_01_005.png", "000002_01_01_007.png"]
    first, second = cases
    np.testing.assert_array_equal(first.lesions, [[10, 16, 30, 34], [0, 0, 8, 8]])
    np.testing.assert_allclose(first.long_axes, [5, 5])
    np.testing.assert_allclose(first.short_axes, [4, 4])
    np.testing.assert_array_equal(first.coarse_types, [4, -1])
    np.testing.assert_array_equal(first.heights, [0.6, 0.6])
    np.testing.assert_array_equal(first.recists[0], [[15, 25], [25, 25], [20, 21], [20, 29]])
    assert (first.patient, first.series, first.key_slice) == ("000001", "000001_01_01", 5)
    assert (first.slice_interval, first.spacing, first.window) == (1, 0.5, (-175, 275))
    assert (first.gender, first.age, second.gender) == ("F", 61, "M")
    assert np.isnan(second.age)


def test_noisy_rows_stay_on_request(info_file: Path) -> None:
    cases = cases_of_records(read_dl_info(info_file), "test", keep_noisy=True)
    assert [len(case.lesions) for case in cases] == [3, 1, 1]


def test_infos_tell_the_same_but_height_sex_and_age(info_file: Path) -> None:
    groups = group_by_key_slice(read_dl_info(info_file), "test")
    (first, _) = cases_of_infos(map(info_of, groups))
    (wanted, _) = cases_of_records(read_dl_info(info_file), "test")
    for name in ("lesions", "long_axes", "short_axes", "coarse_types", "recists"):
        np.testing.assert_array_equal(getattr(first, name), getattr(wanted, name))
    assert (first.patient, first.window) == (wanted.patient, wanted.window)
    assert np.isnan(first.heights).all()
    assert first.gender == ""
    assert np.isnan(first.age)


def test_infos_with_defaults() -> None:
    nan = float("nan")
    info = {"file_name": "a_b_5.png", "series": "a_b", "key_slice": 5, "slice_interval": nan}
    info |= {"spacing": (nan, nan), "window": (-1, 1), "instances": [{"bbox": [1, 2, 3, 4]}]}
    (case,) = cases_of_infos([info])
    assert case.patient == "a"
    assert np.isnan(case.recists).all()
    assert case.recists.shape == (1, 4, 2)
    assert np.isnan(case.long_axes).all()
    np.testing.assert_array_equal(case.coarse_types, [-1])


def test_an_image_without_lesions() -> None:
    info = {"file_name": "a_b_5.png", "series": "a_b", "key_slice": 5, "slice_interval": 1.0}
    info |= {"spacing": (1, 1), "window": (-1, 1), "instances": []}
    (case,) = cases_of_infos([info])
    assert case.lesions.shape == (0, 4)
    assert case.recists.shape == (0, 4, 2)


def test_a_key_slice_must_be_there_once(tmp_path: Path) -> None:
    (case,) = cases_of_records(read_dl_info(write_csv(tmp_path / "DL_info.csv", [csv_row()])))
    assert isinstance(case, Case)
    with pytest.raises(DataError, match=r"000001_01_01_005\.png is there twice"):
        in_order([case, case])


@pytest.mark.parametrize(
    "spelling",
    [
        "000001_01_01_009.png",
        "000001_01_01/009.png",
        "Images_png/000001_01_01/009.png",
        "C:\\data\\000001_01_01\\009.png",
        "000001_01_01_009",
        "000001_01_01/9.png",
    ],
)
def test_spellings_of_a_name(spelling: str) -> None:
    assert canonical_name(spelling) == "000001_01_01_009.png"


def test_other_names_stay() -> None:
    assert canonical_name("folder/picture.png") == "folder/picture.png"
    assert canonical_name("000001_01_01_1009.png") == "000001_01_01_1009.png"


def test_patient_of_a_series() -> None:
    assert patient_of("000012_03_01") == "000012"
