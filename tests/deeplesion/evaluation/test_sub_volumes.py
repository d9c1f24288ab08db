"""The published layouts, written as they are published, and files that are none."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.sub_volumes import SubVolume, read_sub_volumes
from deeplesion.evaluation.volumes import match_volumes

NAME = "000001_01_01_103-115"
OTHER = "001344_01_01_012-024"
ROW = [10.0, 20.0, 105.0, 30.0, 40.0, 108.0]


def read(folder: Path, content: Any) -> list[SubVolume]:
    """Sub-volumes of a file with this content."""
    path = folder / "boxes.pkl"
    path.write_bytes(pickle.dumps(content, 2))
    return read_sub_volumes(path)


def test_arrays_by_split(tmp_path: Path) -> None:
    content = {
        "val": {OTHER: np.zeros((0, 6))},
        "test": {
            NAME: np.array([ROW, [1, 2, 115, 3, 4, 115]]),
            "000001_01_01_001-009": np.zeros(0),
        },
    }
    first, second, third = read(tmp_path, content)
    assert first[:5] == ("000001_01_01_001-009", "test", "000001_01_01", 1, 9)
    assert first.lesions.shape == (0, 6)
    assert second[:5] == (NAME, "test", "000001_01_01", 103, 115)
    assert second.lesions.tolist() == [ROW, [1, 2, 115, 3, 4, 115]]
    assert third[:5] == (OTHER, "val", "001344_01_01", 12, 24)
    assert third.lesions.dtype == np.float64


def test_lesions_by_slice_of_the_sub_volume(tmp_path: Path) -> None:
    content = {
        f"{OTHER}.annot": {
            6: [[10, 20, 30.5, 40, 6.0, 6.0], [1, 2, 3, 4, 6.0, 6.0]],
            0: [[5, 6, 7, 8, 0, 0]],
            3: [],
        },
        NAME: {},
        "000002_01_01_001-009.annot": [],
    }
    first, second, third = read(tmp_path, content)
    assert (first.name, first.lesions.shape) == (NAME, (0, 6))
    assert (second.name, second.lesions.shape) == ("000002_01_01_001-009", (0, 6))
    assert third[:5] == (OTHER, "", "001344_01_01", 12, 24)
    # The sub-volume begins at slice 12 of its series.
    assert third.lesions.tolist() == [
        [10, 20, 18, 30.5, 40, 18],
        [1, 2, 18, 3, 4, 18],
        [5, 6, 12, 7, 8, 12],
    ]


def test_3d_boxes_with_z_last(tmp_path: Path) -> None:
    content = {NAME: [[10.0, 20.0, 30.0, 40.0, 2.0, 5.0]], OTHER: []}
    first, second = read(tmp_path, content)
    assert first[:5] == (NAME, "", "000001_01_01", 103, 115)
    assert first.lesions.tolist() == [ROW]
    assert second.lesions.shape == (0, 6)


def test_they_can_be_scored_with_one_another(tmp_path: Path) -> None:
    (first,) = read(tmp_path, {"test": {NAME: np.array([ROW])}})
    (second,) = read(tmp_path, {NAME: [[10, 20, 30, 40, 2, 5]]})
    found = np.column_stack([second.lesions, [0.9]])
    assert match_volumes([found], [first.lesions], "iou", 1.0).first_hit.tolist() == [0]


def test_a_box_may_reach_beyond_its_sub_volume(tmp_path: Path) -> None:
    (volume,) = read(tmp_path, {"test": {NAME: np.array([[1, 2, 100, 3, 4, 103]])}})
    assert volume.lesions.tolist() == [[1, 2, 100, 3, 4, 103]]


BAD: list[tuple[Any, str]] = [
    ([], "boxes.pkl holds list []; {split: {name: (n, 6) array}}, {name:"),
    ({}, "boxes.pkl holds dict {}; "),
    ({"test": [1, 2]}, "boxes.pkl, 'test': holds a list of 2; "),
    ({"test": {"x": np.zeros((0, 6))}}, "boxes.pkl, 'test', 'x': the key must name series, first"),
    (
        {"test": {NAME: np.zeros((2, 5))}},
        "must be an (n, 6) array of x1, y1, z1, x2, y2, z2, got an",
    ),
    ({"test": {NAME: np.zeros((6, 2, 6))}}, "got an array (6, 2, 6) of float64"),
    ({"test": {NAME: np.array([["a"] * 6])}}, "got an array (1, 6) of <U1"),
    ({"test": {NAME: [ROW]}}, f"'test', '{NAME}': must be an (n, 6) array"),
    ({NAME: np.array([ROW])}, f"boxes.pkl, '{NAME}': holds an array (1, 6) of float64; "),
    (
        {NAME: [[1, 2, 3, 4, 5]]},
        f"'{NAME}': must be a list of rows x1, y1, x2, y2, z1, z2, got a list",
    ),
    ({NAME: [[1, 2, 3, 4, 5, "6"]]}, "must be a list of rows"),
    (
        {NAME: {3: 7}},
        f"'{NAME}', slice 3: must be a list of rows x1, y1, x2, y2, z1, z2, got int 7",
    ),
    ({NAME: {3: [[1, 2, 3, 4, 3, 4]]}}, f"'{NAME}', slice 3: rows must end in that number, twice"),
    ({NAME: {"3": [[1, 2, 3, 4, 3, 3]]}}, "slice '3': rows must end in that number, twice"),
    (
        {NAME: {3: []}, OTHER: [[1, 2, 3, 4, 5, 6]]},
        f"'{OTHER}': holds list [[1, 2, 3, 4, 5, 6]] after",
    ),
    ({NAME: "text"}, f"'{NAME}': holds str text; "),
    ({3: [[1, 2, 3, 4, 5, 6]]}, "boxes.pkl, 3: the key must name series"),
    (
        {"000001_01_01_115-103": []},
        "'000001_01_01_115-103': the key must name series, first and last",
    ),
    ({NAME: [], f"{NAME}.annot": []}, f"'{NAME}': is there twice; keep one of the two"),
    (
        {NAME: [[5, 2, 3, 4, 5, 6]]},
        "box must have x1 <= x2, y1 <= y2 and z1 <= z2, got [5.0, 2.0, 108",
    ),
    (
        {NAME: [[1, 2, 3, 4, 13, 14]]},
        f"'{NAME}': box must have a slice in 103 to 115, got [1.0, 2.0, 1",
    ),
    (
        {"test": {NAME: np.array([[1, 2, 2, 3, 4, 5]])}},
        "box must have a slice in 103 to 115, got [1.0",
    ),
    ({"test": {NAME: np.array([[1, np.nan, 2, 3, 4, 5]])}}, "box must be finite, got [1.0, nan"),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_other_contents_are_refused_by_key(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, content)


def test_files_that_are_no_such_pickle(tmp_path: Path) -> None:
    path = tmp_path / "boxes.pkl"
    path.write_bytes(pickle.dumps({"test": {NAME: np.array([ROW])}})[:-20])
    with pytest.raises(DataError, match=r"boxes\.pkl is not a pickle, or is cut short"):
        read_sub_volumes(path)
    path.write_bytes(pickle.dumps({"test": print}))
    with pytest.raises(DataError, match=r"boxes\.pkl holds builtins\.print"):
        read_sub_volumes(path)
