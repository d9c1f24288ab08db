"""Tests of rows by themselves and together; test_dl_info.py has those of cells."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from deeplesion.datasets.row_parser import (
    RowError,
    is_noisy,
    parse_rows,
    row_errors,
    split_of,
)
from tests.deeplesion.datasets.helpers import csv_row, row_of


def columns(rows: Iterable[dict[str, str]]) -> dict[str, list[str]]:
    """Cells by column."""
    given = list(rows)
    return {name: [row[name] for row in given] for name in given[0]}


def test_a_good_row_has_no_faults() -> None:
    assert list(row_errors(csv_row())) == []
    (record,) = parse_rows(columns([csv_row()]), [17])
    assert record.row == 17


def test_rows_together_are_what_each_is_by_itself() -> None:
    rows = [
        csv_row(Coarse_lesion_type=-1, Patient_age="", Image_size="40,30", Slice_range=""),
        csv_row(Coarse_lesion_type=8, Patient_age=" 7.5", Normalized_lesion_location=" "),
        csv_row(Patient_gender=" M", DICOM_windows="-1000, 400", Spacing_mm_px_="0.7, 0.8, 5"),
        row_of("000002_01_01", 7, split=3, Possibly_noisy=1),
    ]
    together = parse_rows(columns(rows), range(2, 6))
    apart = [parse_rows(columns([row]), [line])[0] for line, row in enumerate(rows, start=2)]
    assert repr(together) == repr(apart)  # in which NaN equals NaN
    assert [record.bbox[2] for record in together] == [29, 30, 30, 30]


def test_numbers_that_are_as_many_in_all_but_not_in_each_row() -> None:
    rows = [csv_row(Bounding_boxes="1, 2, 3, 4, 5"), csv_row(Bounding_boxes="1, 2, 3")]
    with pytest.raises(RowError, match=r"Bounding_boxes.*must be 4 numbers"):
        parse_rows(columns(rows), [2, 3])


def test_the_first_fault_of_a_row_is_raised() -> None:
    bad = csv_row(Train_Val_Test="7", Bounding_boxes="x", Key_slice_index="6")
    with pytest.raises(RowError, match=r"Key_slice_index.*must be that of 000001_01_01_"):
        parse_rows(columns([bad]), [2])


def test_one_fault_a_column() -> None:
    """The box cannot be checked without the size, and says nothing of its own then."""
    bad = csv_row(Image_size="x", Bounding_boxes="1, 1, 5, 5", Patient_age="old")
    assert [fault.column for fault in row_errors(bad)] == ["Image_size", "Patient_age"]


def test_split() -> None:
    assert split_of(["1", "2", "3.0"]) == ["train", "val", "test"]


def test_noisy() -> None:
    assert is_noisy(["0", "1", " 1 "]) == [False, True, True]
    with pytest.raises(RowError, match=r"Possibly_noisy.*must be one of \[0, 1\]"):
        is_noisy(["0", "maybe"])


@pytest.mark.parametrize("interval", ["0.049", "100.1"])
def test_intervals_that_cannot_be(interval: str) -> None:
    rows = [csv_row(), row_of("000002_01_01", 5, Spacing_mm_px_=f"0.5, 0.5, {interval}")]
    with pytest.raises(RowError, match=r"slice_interval must be 0\.05 to 100 mm"):
        parse_rows(columns(rows), [2, 3])
