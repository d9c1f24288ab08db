"""What a block of rows gives is what its rows give one by one, whichever of them are bad."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.datasets import dl_info
from deeplesion.datasets.lesion_record import COLUMNS, LesionRecord, Problem
from deeplesion.datasets.row_scanner import Row, RowScanner
from tests.deeplesion.datasets.helpers import csv_row, row_of, write_csv

#: Cells that are wrong, of columns at the begin, in the middle and at the end of what is checked.
WRONG = {
    "File_name": "x",
    "Patient_index": "7",
    "Spacing_mm_px_": "0.5, 0.5, -1",
    "Image_size": "0, 0",
    "Bounding_boxes": "5, 5, 5, 9",
    "Measurement_coordinates": "1, 2",
    "Possibly_noisy": "2",
    "Train_Val_Test": "x",
}
bad_columns = st.lists(
    st.sets(st.sampled_from(sorted(WRONG)), max_size=3) | st.just(set()), max_size=20
)


def scan(
    rows: list[dict[str, str]], keep_noisy: bool = True, every: bool = False, block: int = 1000
) -> list[LesionRecord | Problem]:
    """Scan rows from line 2 on, some at a time."""
    scanner = RowScanner("R/DL_info.csv", COLUMNS, keep_noisy, every)
    numbered: list[Row] = [(n, list(row.values())) for n, row in enumerate(rows, start=2)]
    blocks = (numbered[begin : begin + block] for begin in range(0, len(rows), block))
    return [item for rows_of_block in blocks for item in scanner.scan(rows_of_block)]


@given(bad_columns, st.booleans(), st.booleans())
def test_a_block_gives_what_its_rows_give_one_by_one(
    bad: list[set[str]], keep_noisy: bool, every: bool
) -> None:
    rows = [
        row_of(f"{n % 3 + 1:06d}_01_01", 5, Possibly_noisy=n % 5 // 4)
        | {column: WRONG[column] for column in columns}
        for n, columns in enumerate(bad)
    ]
    together = scan(rows, keep_noisy, every)
    assert together == scan(rows, keep_noisy, every, block=1)
    wanted = [n + 2 for n, columns in enumerate(bad) if columns or keep_noisy or n % 5 != 4]
    unsure = {n + 2 for n, _ in enumerate(bad) if n % 5 == 4 and not keep_noisy}
    rows_told = list(dict.fromkeys(item.row for item in together))
    assert [row for row in rows_told if row not in unsure] == [
        row for row in wanted if row not in unsure
    ]
    for item in together:
        assert isinstance(item, Problem) == bool(bad[(item.row or 0) - 2])


@pytest.mark.parametrize("early", sorted(WRONG))
@pytest.mark.parametrize("late", sorted(WRONG))
def test_the_first_bad_row_comes_first_whatever_its_column(early: str, late: str) -> None:
    rows = [csv_row() for _ in range(10)]
    rows[3] = rows[3] | {early: WRONG[early]}
    rows[7] = rows[7] | {late: WRONG[late]}
    problems = [item for item in scan(rows) if isinstance(item, Problem)]
    assert [(p.row, p.column, p.value) for p in problems] == [
        (5, early, WRONG[early]),
        (9, late, WRONG[late]),
    ]


def test_rows_are_compared_with_the_first_good_one_of_their_key_slice() -> None:
    rows = [
        csv_row(Spacing_mm_px_="0.5, 0.5, 3", Bounding_boxes="x"),
        csv_row(Spacing_mm_px_="0.5, 0.5, 4", Possibly_noisy="1"),
        csv_row(),
        csv_row(Spacing_mm_px_="0.5, 0.5, 2"),
        csv_row(),
    ]
    for block in (1, 2, 3, 5):
        first, good, second, other = scan(rows, keep_noisy=False, block=block)
        assert isinstance(first, Problem)
        assert isinstance(second, Problem)
        assert (first.row, good.row, second.row, other.row) == (2, 4, 5, 6)
        assert "slice_interval must be that of row 4, 1.0, got 2.0 (row 5" in str(second)


def test_rows_of_too_few_cells_and_of_none() -> None:
    scanner = RowScanner("R/DL_info.csv", COLUMNS, keep_noisy=False, every_problem=True)
    assert list(scanner.scan([])) == []
    (problem,) = scanner.scan([(2, list(csv_row().values())[:3])])
    assert isinstance(problem, Problem)
    assert str(problem).startswith(
        "a row must have 18 cells, got 3 (row 2 of DL_info.csv); correct"
    )
    assert (problem.column, problem.value) == ("", "")
    assert (problem.file_name, problem.split) == ("000001_01_01_005.png", None)


def test_one_bad_row_of_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dl_info, "BLOCK_ROWS", 4)
    rows = [row_of(f"{n:06d}_01_01", 5) for n in range(1, 12)]
    rows[9]["Image_size"] = "x"
    path = write_csv(tmp_path / "DL_info.csv", rows)
    with path.open("a") as stream:
        stream.write('"' + "1, " * 100_000 + "\n")
    items = list(dl_info.scan_dl_info(path))
    assert [item.row for item in items] == [*range(2, 13), None]
    assert [isinstance(item, Problem) for item in items].index(True) == 9
