"""Files of key slices in JSON; test_deeplesion.py reads them as a data set does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from deeplesion.datasets.info_files import read_infos, write_infos
from deeplesion.datasets.lesion_record import DataError

NAME = "000001_01_01_005.png"


def entry(**changes: Any) -> dict[str, Any]:
    lesions = [{"bbox": [1, 2, 3, 4]}]
    least = {"file_name": NAME, "height": 64, "width": 48, "slice_interval": 1}
    return {**least, "instances": lesions, **changes}


def read(tmp_path: Path, *entries: Any) -> list[dict[str, Any]]:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data_list": entries}))
    return read_infos(path)


def test_defaults(tmp_path: Path) -> None:
    (info,) = read(tmp_path, entry(slice_interval=None))
    assert (info["series"], info["key_slice"], info["split"]) == ("000001_01_01", 5, None)
    assert math.isnan(info["slice_interval"])
    assert all(map(math.isnan, info["spacing"]))
    assert info["window"] == (-175, 275)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be {'metainfo'"),
        ({"data_list": [{}]}, r"entry 0 .* lacks file_name, height, width, slice_interval, inst"),
        ({"data_list": [{"file_name": "x.png"}]}, "entry 0 .* lacks height"),
        ({"data_list": [7]}, "entry 0 .* lacks"),
    ],
)
def test_another_layout(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_infos(tmp_path / "a.json")


def test_no_json(tmp_path: Path) -> None:
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.json is not JSON"):
            read_infos(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "109.png"}, "file_name must look like"),
        ({"file_name": 109}, "file_name must look like .* got 109"),
        ({"height": "64"}, "height must be a whole number >= 1 px, got '64'"),
        ({"width": 0}, "width must be a whole number >= 1 px, got 0"),
        ({"key_slice": "5"}, "key_slice must be a whole number"),
        ({"split": "valid"}, "split must be one of .* got 'valid'"),
        ({"slice_interval": 0.01}, "slice_interval must be 0.05 to 100 mm, or null"),
        ({"slice_interval": -1}, "slice_interval must be 0.05 to 100 mm, or null"),
        ({"slice_interval": "1"}, "slice_interval must be .* got '1'"),
        ({"spacing": [1]}, r"spacing must be 2 numbers or null, got \[1\]"),
        ({"window": [275, -175]}, r"window must be \(low, high\) in HU with low < high"),
        ({"instances": {}}, "instances must be a list of lesions"),
        ({"instances": [{"bbox": [3, 2, 1, 4]}]}, "bbox of lesion 0 must be .* with an area"),
        ({"instances": [{"bbox": [1, 2, 1, 4]}]}, "bbox of lesion 0 must be .* with an area"),
        ({"instances": [{}]}, "bbox of lesion 0 must be .* got None"),
        ({"instances": [7]}, "bbox of lesion 0 must be .* got None"),
        ({"instances": [{"bbox": [1, 2, math.nan, 4]}]}, "bbox of lesion 0 must be"),
        ({"instances": [{"bbox": [1, 2, "3", 4]}]}, "bbox of lesion 0 must be"),
        (
            {"instances": [{"bbox": [60, 2, 70, 4]}]},
            "bbox of lesion 0 is outside the image of 64 x 48 px",
        ),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=rf"entry 1 of data_list in .*a\.json: {message}"):
        read(tmp_path, entry(file_name="000009_01_01_005.png"), entry(**changes))


def test_a_key_slice_stands_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"entry 1 .*: {NAME} is that of entry 0 already"):
        read(tmp_path, entry(), entry())


def test_boxes_are_clipped_as_those_of_the_csv(tmp_path: Path) -> None:
    (info,) = read(tmp_path, entry(instances=[{"bbox": [-3.5, 1, 52, 70]}]))
    assert info["instances"][0]["bbox"] == [0, 1, 47, 63]


def test_nan_is_written_as_null_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_infos(path, read(tmp_path, entry(slice_interval=None)))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    (written,) = json.loads(path.read_text(), parse_constant=refuse)["data_list"]
    assert (written["slice_interval"], written["spacing"]) == (None, [None, None])
    (info,) = read_infos(path)
    assert math.isnan(info["slice_interval"])
    assert all(map(math.isnan, info["spacing"]))
