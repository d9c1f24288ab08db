"""Tests of the check of a whole data root."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplesion.datasets.checks import check_data_root, count_splits
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_series, write_slice


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two good key slices, a row without area between them, and one lesion more in the first."""
    rows = [
        row_of("000001_01_01", 5),
        row_of("000002_01_01", 5, Bounding_boxes="5, 5, 5, 9"),
        row_of("000003_01_01", 5, Possibly_noisy="1"),
        row_of("000001_01_01", 5, Bounding_boxes="5, 5, 9, 9"),
    ]
    write_csv(tmp_path / "DL_info.csv", rows)
    for series in ("000001_01_01", "000002_01_01", "000003_01_01"):
        write_series(tmp_path, series, [5])
    return tmp_path


def test_all_is_well(shared_data: Path) -> None:
    assert check_data_root(shared_data / "deeplesion_mini") == []
    assert check_data_root(shared_data / "deeplesion_mini", deep=True) == []


def test_everything_in_order_of_rows(root: Path) -> None:
    (root / "Images_png/000001_01_01/005.png").unlink()
    (root / "Images_png/000003_01_01/005.png").write_bytes(b"")
    problems = check_data_root(root)
    assert [(problem.row, problem.column) for problem in problems] == [
        (2, "File_name"),
        (3, "Bounding_boxes"),
        (4, "File_name"),
    ]
    assert "005.png is missing (row 2 of DL_info.csv); unpack its archive" in str(problems[0])
    assert "truncated" in str(problems[2])
    assert [problem.row for problem in check_data_root(root, deep=True)] == [2, 3, 4]


def test_either_check_knows_the_size(root: Path) -> None:
    write_slice(root / "Images_png/000001_01_01/005.png", 0, (48, 64))
    for deep in (False, True):
        assert "must have 64 x 48 px" in str(check_data_root(root, deep=deep)[0])


def test_deep_check_reads_what_is_stored_of_the_slice_range(root: Path) -> None:
    folder = root / "Images_png/000001_01_01"
    write_series(root, "000001_01_01", [4, 6])
    (folder / "006.png").write_bytes(b"")
    (folder / "010.png").write_bytes(b"")  # beyond the range, 1 to 9
    assert [problem.row for problem in check_data_root(root)] == [3]
    deep = check_data_root(root, deep=True)
    assert [problem.row for problem in deep] == [2, 3]
    assert "006.png is not a PNG" in str(deep[0])


def test_lesions_that_stand_twice(root: Path) -> None:
    rows = [row_of("000001_01_01", 5) for _ in range(3)]
    write_csv(root / "DL_info.csv", rows)
    problems = check_data_root(root)
    assert [problem.row for problem in problems] == [3, 4]
    assert "has the lesion of row 2 again, with the same box (row 3" in str(problems[0])


def test_counts(root: Path) -> None:
    (root / "masks_val.json").touch()
    assert count_splits(root) == {
        "train": (1, 2, False),
        "val": (0, 0, True),
        "test": (0, 0, False),
    }


def test_absent_parts(tmp_path: Path) -> None:
    (absent,) = check_data_root(tmp_path / "nothing")
    assert "is not there; get DeepLesion from the NIH, or `python tools/make_synth" in str(absent)
    no_csv, no_images = check_data_root(tmp_path)
    assert "has no DL_info.csv; put the NIH's DL_info.csv there" in str(no_csv)
    assert "no folder of slices such as Images_png/000001_01_01" in str(no_images)
    write_csv(tmp_path / "DL_info.csv", [row_of("000001_01_01", 5, Image_size="x")])
    bad_row, no_images = check_data_root(tmp_path)
    assert sorted(str(p.row) for p in (bad_row, no_images)) == ["2", "None"]
