"""Tests of reading ``DL_info.csv``."""

from __future__ import annotations

import csv
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from deeplesion.datasets.ct import SliceError
from deeplesion.datasets.data_infos import MissingMasksError
from deeplesion.datasets.dl_info import (
    COLUMNS,
    DLInfoError,
    find_image_root,
    group_by_key_slice,
    iter_problems,
    key_slice_path,
    read_dl_info,
)
from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.mask_files import EmptySplitError
from tests.deeplesion.datasets.helpers import csv_row, row_of, write_csv


def test_every_field_of_a_row(tmp_path: Path) -> None:
    (record,) = read_dl_info(write_csv(tmp_path / "DL_info.csv", [csv_row()]))
    assert record._asdict() == {
        "file_name": "000001_01_01_005.png",
        "series": "000001_01_01",
        "patient_id": 1,
        "key_slice": 5,
        "bbox": (10.0, 16.0, 30.0, 34.0),
        "recist": ((15.0, 25.0), (25.0, 25.0), (20.0, 21.0), (20.0, 29.0)),
        "diameters_px": (10.0, 8.0),
        "diameters_mm": (5.0, 4.0),
        "location": (0.4, 0.5, 0.6),
        "coarse_type": -1,
        "possibly_noisy": False,
        "slice_range": (1, 9),
        "spacing": (0.5, 0.5),
        "slice_interval": 1.0,
        "image_size": (64, 48),
        "window": (-175.0, 275.0),
        "gender": "F",
        "age": 61.0,
        "split": "train",
        "row": 2,
    }


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "DL_info.csv"
    row = csv_row() | {"Remark": "mine"}
    names = list(reversed(row))
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerow(row)
    plain = write_csv(tmp_path / "plain.csv", [csv_row()])
    assert read_dl_info(path) == read_dl_info(plain)


def test_box_that_pokes_out_is_clipped(tmp_path: Path) -> None:
    row = csv_row(Bounding_boxes="-3.5, 0, 52, 70.25")
    (record,) = read_dl_info(write_csv(tmp_path / "DL_info.csv", [row]))
    assert record.bbox == (0, 0, 47, 63)


def test_unimportant_cells_may_be_empty_or_nan(tmp_path: Path) -> None:
    row = csv_row(
        Patient_age="", Patient_gender="", Slice_range="NaN, NaN", Normalized_lesion_location=""
    )
    (record,) = read_dl_info(write_csv(tmp_path / "DL_info.csv", [row]))
    assert math.isnan(record.age)
    assert record.gender == ""
    assert record.slice_range == (-1, -1)
    assert all(map(math.isnan, record.location))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("File_name", "109.png", r"File_name must look like 000001_01_01_109.png, got '109.png'"),
        ("Patient_index", "2", "Patient_index must be that of 000001_01_01_005.png, got '2'"),
        ("Key_slice_index", "6", "Key_slice_index must be that of 000001_01_01_005.png, got '6'"),
        ("Key_slice_index", "five", "Key_slice_index must be a whole number, got 'five'"),
        ("Measurement_coordinates", "1, 2, 3", "Measurement_coordinates must be 8 numbers"),
        ("Bounding_boxes", "1, 2, 3", "Bounding_boxes must be 4 numbers"),
        ("Bounding_boxes", "11, nan, 31, 35", "Bounding_boxes must be 4 numbers"),
        ("Bounding_boxes", "31, 17, 11, 35", "Bounding_boxes has no area"),
        ("Bounding_boxes", "11, 17, 11, 35", "Bounding_boxes has no area"),
        ("Bounding_boxes", "60, 17, 70, 35", r"is outside the image of 64 x 48 px \(h x w\)"),
        ("Bounding_boxes", "-9, 17, 0.5, 35", "is outside the image"),
        ("Lesion_diameters_Pixel_", "-3, 2", "Lesion_diameters_Pixel_ must be > 0 px"),
        ("Coarse_lesion_type", "9", r"Coarse_lesion_type must be one of \[-1, 1, 2"),
        ("Possibly_noisy", "2", r"Possibly_noisy must be one of \[0, 1\], got '2'"),
        ("Spacing_mm_px_", "0.5, 0.5, NaN", "slice_interval must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, 0.5, -1", "slice_interval must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, 0.5, 0", "slice_interval must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, 0.5, 0.01", "slice_interval must be 0.05 to 100 mm"),
        ("Spacing_mm_px_", "0.5, 0.5, 5000", "slice_interval must be 0.05 to 100 mm"),
        ("Spacing_mm_px_", "NaN, 0.5, 1", "pixel spacing must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, NaN, 1", "pixel spacing must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, -0.5, 1", "pixel spacing must be > 0 mm"),
        ("Spacing_mm_px_", "0.5, inf, 1", "pixel spacing must be > 0 mm"),
        ("Image_size", "64.5, 48", "Image_size must be 2 whole numbers"),
        ("DICOM_windows", "275, -175", "DICOM_windows must have its lower end first"),
        ("Patient_age", "old", "Patient_age must be a number or empty"),
        ("Train_Val_Test", "4", r"Train_Val_Test must be one of \[1, 2, 3\], got '4'"),
    ],
)
def test_malformed_cell(tmp_path: Path, column: str, value: str, message: str) -> None:
    path = write_csv(tmp_path / "DL_info.csv", [csv_row(), csv_row(**{column: value})])
    with pytest.raises(DLInfoError, match=message) as caught:
        read_dl_info(path)
    assert "(row 3 of DL_info.csv); correct or remove the row" in str(caught.value)
    problem = caught.value.problem
    assert (problem.row, problem.column, problem.value) == (3, column, value)
    assert list(iter_problems(path)) == [problem]


def test_all_problems_in_one_pass(tmp_path: Path) -> None:
    bad = [
        csv_row(Bounding_boxes="x"),
        csv_row(),
        csv_row(Spacing_mm_px_="0.5, 0.5, -1"),
        csv_row(Possibly_noisy="1", Image_size="0, 0"),
    ]
    path = write_csv(tmp_path / "DL_info.csv", bad)
    with path.open("a") as stream:
        stream.write("000001_01_01_005.png,1\n")
    assert [problem.row for problem in iter_problems(path)] == [2, 4, 5, 6]
    assert "a row must have 18 cells, got 2" in str(list(iter_problems(path))[-1])


def test_rows_dropped_as_noisy_are_not_looked_at(tmp_path: Path) -> None:
    rows = [csv_row(), csv_row(Possibly_noisy="1", Image_size="0, 0")]
    path = write_csv(tmp_path / "DL_info.csv", rows)
    assert [record.row for record in read_dl_info(path, keep_noisy=False)] == [2]


def test_rows_of_one_key_slice_must_agree(tmp_path: Path) -> None:
    rows = [csv_row(), csv_row(Spacing_mm_px_="0.5, 0.5, 2"), csv_row(Train_Val_Test=3)]
    problems = list(iter_problems(write_csv(tmp_path / "DL_info.csv", rows)))
    assert [problem.row for problem in problems] == [3, 4]
    assert "slice_interval must be that of row 2, 1.0, got 2.0" in str(problems[0])
    assert "split must be that of row 2, train, got test" in str(problems[1])


@pytest.mark.parametrize("header", ["", "File_name,Bounding_boxes\n"])
def test_missing_columns(tmp_path: Path, header: str) -> None:
    path = tmp_path / "DL_info.csv"
    path.write_text(header)
    with pytest.raises(DLInfoError, match=r"lacks the column.*Spacing_mm_px_.*it has: (n|F)"):
        read_dl_info(path)


def test_error_survives_pickling(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "DL_info.csv", [csv_row(Image_size="")])
    with pytest.raises(DLInfoError) as caught:
        read_dl_info(path)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.problem == caught.value.problem


def test_grouping(tmp_path: Path) -> None:
    rows = [
        csv_row(),
        row_of("000002_01_01", 7, split=2),
        csv_row(Possibly_noisy="1"),
        row_of("000003_01_01", 7, split=2, Possibly_noisy="1"),
        csv_row(),
    ]
    records = read_dl_info(write_csv(tmp_path / "DL_info.csv", rows))
    groups = group_by_key_slice(records)
    assert [(g.file_name[:6], [lesion.row for lesion in g.lesions]) for g in groups] == [
        ("000001", [2, 6]),
        ("000002", [3]),
    ]
    assert groups[0].first.row == 2
    assert [g.first.row for g in group_by_key_slice(records, "val")] == [3]
    assert [g.first.row for g in group_by_key_slice(records, "val", keep_noisy=True)] == [3, 5]
    assert group_by_key_slice(records, "test") == []
    with pytest.raises(ValueError, match=r"split must be one of .*'valid'"):
        group_by_key_slice(records, "valid")


@pytest.mark.parametrize("layout", ["Images_png", "Images_png/Images_png", "."])
def test_either_layout_is_found(tmp_path: Path, layout: str) -> None:
    (tmp_path / layout / "000001_01_01").mkdir(parents=True)
    (tmp_path / layout / "readme.txt").touch()
    root = find_image_root(tmp_path)
    assert root == tmp_path / layout
    assert key_slice_path(root, "000001_01_01", 9) == root / "000001_01_01" / "009.png"
    assert key_slice_path(root, "000001_01_01", 1234).name == "1234.png"


def test_no_layout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Images_png" / "Images_png").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no folder of slices such as Images_png/000001_"):
        find_image_root(tmp_path)


def test_real_rows_parse_exactly(shared_data: Path) -> None:
    path = shared_data / "DL_info_rows.csv"
    records = read_dl_info(path)
    assert len(records) == 24
    assert list(iter_problems(path)) == []
    first = records[0]
    assert first.file_name == "000089_01_01_037.png"
    assert first.bbox == pytest.approx((131.977, 170.808, 164.939, 213.029))
    assert np.allclose(
        first.recist,
        [[153.273, 175.808], [142.903, 208.029], [159.939, 199.511], [136.977, 190.252]],
    )
    assert first.diameters_px == (33.8477, 24.7578)
    assert first.diameters_mm == pytest.approx((33.8477 * 0.859375, 24.7578 * 0.859375))
    assert first.spacing == (0.859375, 0.859375)
    assert (first.slice_interval, first.slice_range, first.split) == (5.0, (31, 43), "train")
    # Every number of every row, by another way of reading.
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for number, (row, record) in enumerate(zip(rows, records, strict=True)):

        def numbers(column: str, row: dict[str, str] = row) -> np.ndarray:
            return np.array(row[column].split(","), float)

        assert record.row == number + 2
        assert np.allclose(record.bbox, numbers("Bounding_boxes") - 1)
        assert np.allclose(np.ravel(record.recist), numbers("Measurement_coordinates") - 1)
        assert record.location == tuple(numbers("Normalized_lesion_location"))
        assert (*record.spacing, record.slice_interval) == tuple(numbers("Spacing_mm_px_"))
        assert record.image_size == tuple(numbers("Image_size"))
        assert record.window == tuple(numbers("DICOM_windows"))
        assert record.coarse_type == int(row["Coarse_lesion_type"])
        assert (record.gender, record.age) == (row["Patient_gender"], float(row["Patient_age"]))
        # By definition of DeepLesion: the box is the RECIST extent and 5 px, the long axis first.
        points = np.array(record.recist)
        hull = [*(points.min(0) - 5), *(points.max(0) + 5)]
        assert record.bbox == pytest.approx(hull, abs=2e-3)
        long, short = np.linalg.norm(points[[0, 2]] - points[[1, 3]], axis=1)
        assert record.diameters_px == pytest.approx((long, short), abs=2e-3)


def test_counts_of_the_validation_split(shared_data: Path) -> None:
    records = read_dl_info(shared_data / "DL_info_val.csv")
    assert len(records) == 4889
    assert len(group_by_key_slice(records, "val", keep_noisy=True)) == 4793
    clean = group_by_key_slice(records, "val")
    assert len(clean) == 4791
    assert sum(len(group.lesions) for group in clean) == 4887


def test_boxes_are_those_published_in_coco(shared_data: Path) -> None:
    records = read_dl_info(shared_data / "DL_info_val.csv")
    coco = json.loads((shared_data / "deeplesion_val_coco.json").read_text())
    expected = np.array([annotation["bbox"] for annotation in coco["annotations"]])
    expected[:, 2:] += expected[:, :2]
    difference = np.abs(np.array([record.bbox for record in records]) - expected).max(axis=1)
    # Two boxes poke out of the image and are clipped.
    assert [records[i].row for i in np.flatnonzero(difference > 1e-6)] == [
        i + 2 for i in np.flatnonzero((expected[:, 2:] > 511).any(axis=1) & (difference > 0))
    ]
    assert (difference > 1e-6).sum() == 2


def test_as_many_rows_as_the_real_file_has(tmp_path: Path) -> None:
    rows = [row_of(f"{i:06d}_01_01", 5) for i in range(1, 32736)]
    path = write_csv(tmp_path / "DL_info.csv", rows)
    assert len(read_dl_info(path)) == 32735


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_dl_info(tmp_path / "DL_info.csv")


def test_columns_are_those_of_the_real_file(shared_data: Path) -> None:
    header = (shared_data / "DL_info_rows.csv").read_text().splitlines()[0]
    assert tuple(header.split(",")) == COLUMNS


def test_errors_are_data_errors() -> None:
    for kind in (DLInfoError, SliceError, EmptySplitError, MissingMasksError):
        assert issubclass(kind, DataError)
    assert issubclass(DataError, ValueError)


def test_all_problems_of_a_row(tmp_path: Path) -> None:
    row = csv_row(Bounding_boxes="x", Spacing_mm_px_="0.5, 0.5, -1", Train_Val_Test="7")
    path = write_csv(tmp_path / "DL_info.csv", [row, csv_row(Image_size="0, 0")])
    problems = list(iter_problems(path))
    assert [(problem.row, problem.column) for problem in problems] == [
        (2, "Spacing_mm_px_"),
        (2, "Bounding_boxes"),
        (2, "Train_Val_Test"),
        (3, "Image_size"),
    ]
    with pytest.raises(DLInfoError, match=r"row 2"):
        read_dl_info(path)


def test_problems_know_key_slice_and_split(tmp_path: Path) -> None:
    rows = [
        row_of("000002_01_01", 7, split=2, Bounding_boxes="x"),
        csv_row(File_name="x", Train_Val_Test="9"),
    ]
    first, *others = iter_problems(write_csv(tmp_path / "DL_info.csv", rows))
    assert (first.file_name, first.split) == ("000002_01_01_007.png", "val")
    assert {(problem.file_name, problem.split) for problem in others} == {("", None)}


def test_bytes_that_are_not_utf8_are_a_problem_of_their_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "DL_info.csv", [csv_row(), csv_row(Patient_gender="F@"), csv_row()])
    path.write_bytes(path.read_bytes().replace(b"F@", b"\xff"))
    (problem,) = iter_problems(path)
    assert (problem.row, problem.file_name) == (3, "000001_01_01_005.png")
    assert "must be UTF-8" in str(problem)
    path.write_text(path.read_text(errors="replace"), encoding="utf-16")
    (problem,) = iter_problems(path)
    assert "in UTF-8" in str(problem)
    print(problem)  # what it quotes can be printed


def test_a_quote_that_is_not_closed_is_a_problem(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "DL_info.csv", [csv_row()])
    with path.open("a") as stream:
        stream.write('"' + "1, " * 100_000 + "\n")
    (problem,) = iter_problems(path)
    assert "cannot be read on from line 3" in str(problem)
    assert "a quote that is not closed" in problem.remedy
    assert problem.ends_reading


def test_row_of_a_record_with_a_line_break_is_its_first_line(tmp_path: Path) -> None:
    rows = [csv_row(Patient_gender="F\n\n"), csv_row(), csv_row(Image_size="\n0, 0")]
    path = write_csv(tmp_path / "DL_info.csv", rows)
    assert [r.row for r in read_dl_info(write_csv(tmp_path / "a.csv", rows[:2]))] == [2, 5]
    assert [problem.row for problem in iter_problems(path)] == [6]
