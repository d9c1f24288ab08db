"""Tests of rows by themselves and together; test_dl_info.py has those of cells."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from deeplesion.datasets.row_parser import (
    COARSE_TYPES,
    RowFault,
    is_noisy,
    parse_rows,
    row_faults,
    split_of,
)
from tests.deeplesion.datasets.helpers import csv_row, row_of


def columns(rows: Iterable[dict[str, str]]) -> dict[str, list[str]]:
    """Cells by column."""
    given = list(rows)
    return {name: [row[name] for row in given] for name in given[0]}


def test_a_good_row_has_no_faults() -> None:
    assert list(row_faults(csv_row())) == []
    (record,) = parse_rows(columns([csv_row()]), [17])
    assert record.row == 17


def test_rows_together_are_what_each_is_by_itself() -> None:
    rows = [
        csv_row(Coarse_lesion_type=code, Patient_age=age, Image_size=size, Slice_range=slices)
        for code, age, size, slices in zip(
            COARSE_TYPES, ["", "61", " 7.5"] * 3, ["64, 48", "40,30", "36, 30"] * 3, ["", "1, 9"] * 5
        )
    ]
    together = parse_rows(columns(rows), range(2, 11))
    apart = [parse_rows(columns([row]), [line])[0] for line, row in enumerate(rows, start=2)]
    assert repr(together) == repr(apart)  # in which NaN equals NaN
    assert {record.bbox for record in together} == {(10, 16, 30, 34), (10, 16, 29, 34)}


def test_numbers_that_are_as_many_in_all_but_not_in_each_row() -> None:
    rows = [csv_row(Bounding_boxes="1, 2, 3, 4, 5"), csv_row(Bounding_boxes="1, 2, 3")]
    with pytest.raises(RowFault, match="Bounding_boxes.*must be 4 numbers"):
        parse_rows(columns(rows), [2, 3])


def test_the_first_fault_of_a_row_is_raised() -> None:
    bad = csv_row(Train_Val_Test="7", Bounding_boxes="x", Key_slice_index="6")
    with pytest.raises(RowFault, match="Key_slice_index.*must be that of 000001_01_01_005.png"):
        parse_rows(columns([bad]), [2])


def test_one_fault_a_column() -> None:
    """The box cannot be checked without the size, and says nothing of its own then."""
    bad = csv_row(Image_size="x", Bounding_boxes="1, 1, 5, 5", Patient_age="old")
    assert [fault.column for fault in row_faults(bad)] == ["Image_size", "Patient_age"]


def test_split() -> None:
    assert split_of(["1", "2", "3.0"]) == ["train", "val", "test"]


def test_noisy() -> None:
    assert is_noisy(["0", "1", " 1 "]) == [False, True, True]
    with pytest.raises(RowFault, match=r"Possibly_noisy.*must be one of \[0, 1\]"):
        is_noisy(["0", "maybe"])


@pytest.mark.parametrize("interval", ["0.049", "100.1"])
def test_intervals_that_cannot_be(interval: str) -> None:
    rows = [csv_row(), row_of("000002_01_01", 5, Spacing_mm_px_=f"0.5, 0.5, {interval}")]
    with pytest.raises(RowFault, match=r"slice_interval must be 0\.05 to 100 mm"):
        parse_rows(columns(rows), [2, 3])
