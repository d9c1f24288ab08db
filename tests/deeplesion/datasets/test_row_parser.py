"""Tests of single rows; test_dl_info.py has those of cells."""

from __future__ import annotations

import pytest

from deeplesion.datasets.dl_info import DLInfoError
from deeplesion.datasets.row_parser import Row, is_noisy, parse_row, row_problems, split_of
from tests.deeplesion.datasets.helpers import csv_row


def row(**changes: object) -> Row:
    return Row("R/DL_info.csv", 17, csv_row(**changes))


def test_a_good_row_has_no_problems() -> None:
    assert list(row_problems(row())) == []
    assert parse_row(row()).row == 17


def test_one_problem_a_column() -> None:
    """The box cannot be checked without the size, and says nothing of its own then."""
    bad = row(Image_size="x", Bounding_boxes="1, 1, 5, 5", Patient_age="old")
    assert [problem.column for problem in row_problems(bad)] == ["Image_size", "Patient_age"]


@pytest.mark.parametrize(("code", "split"), [("1", "train"), ("2", "val"), ("3.0", "test")])
def test_split(code: str, split: str) -> None:
    assert split_of(row(Train_Val_Test=code)) == split


@pytest.mark.parametrize(("mark", "noisy"), [("0", False), ("1", True)])
def test_noisy(mark: str, noisy: bool) -> None:
    assert is_noisy(row(Possibly_noisy=mark)) is noisy


@pytest.mark.parametrize("interval", ["0.049", "100.1"])
def test_intervals_that_cannot_be(interval: str) -> None:
    with pytest.raises(DLInfoError, match=r"slice_interval must be 0\.05 to 100 mm.*row 17"):
        parse_row(row(Spacing_mm_px_=f"0.5, 0.5, {interval}"))
