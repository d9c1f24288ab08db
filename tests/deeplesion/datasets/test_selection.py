"""Key slices with malformed rows go as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplesion.datasets.dl_info import DLInfoError
from deeplesion.datasets.selection import Selection, select_key_slices
from tests.deeplesion.datasets.helpers import csv_row, row_of, write_csv

FIRST, SECOND, THIRD = (f"00000{n}_01_01" for n in (1, 2, 3))


def select(tmp_path: Path, rows: list[dict[str, str]], split: str | None = "train") -> Selection:
    return select_key_slices(write_csv(tmp_path / "DL_info.csv", rows), split)


def names(selection: Selection) -> list[str]:
    return [group.file_name[:12] for group in selection.key_slices]


def test_a_malformed_row_drops_its_whole_key_slice(tmp_path: Path) -> None:
    rows = [
        row_of(FIRST, 5),
        row_of(SECOND, 5),
        row_of(FIRST, 5, Bounding_boxes="x"),
        row_of(FIRST, 5, Spacing_mm_px_="x"),
    ]
    selection = select(tmp_path, rows)
    assert names(selection) == [SECOND]
    assert {name: p.row for name, p in selection.dropped.items()} == {f"{FIRST}_005.png": 4}
    assert selection.rows == []
    problem = selection.first_problem()
    assert problem is not None
    assert problem.row == 4


def test_other_splits_do_not_count(tmp_path: Path) -> None:
    rows = [
        row_of(FIRST, 5),
        row_of(SECOND, 5, split=3, Bounding_boxes="x"),
        row_of(THIRD, 5, split=2),
        row_of(THIRD, 5, split=2) | {"Train_Val_Test": "x"},
    ]
    selection = select(tmp_path, rows)
    assert names(selection) == [FIRST]
    assert selection.first_problem() is None
    assert list(select(tmp_path, rows, "val").dropped) == [f"{THIRD}_005.png"]
    assert len(select(tmp_path, rows, None).dropped) == 2


def test_rows_that_do_not_tell_their_key_slice(tmp_path: Path) -> None:
    selection = select(tmp_path, [csv_row(), csv_row(File_name="x")])
    assert names(selection) == [FIRST]
    assert [problem.row for problem in selection.rows] == [3]


def test_noisy_rows_are_not_looked_at(tmp_path: Path) -> None:
    rows = [csv_row(), csv_row(Possibly_noisy="1", Bounding_boxes="x")]
    assert names(select(tmp_path, rows)) == [FIRST]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "DL_info.csv").write_text("File_name\n")
    with pytest.raises(DLInfoError, match="lacks the column"):
        select_key_slices(tmp_path / "DL_info.csv", "train")
