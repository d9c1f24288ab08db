"""Ground truth out of every file that it comes in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.datasets.data_infos import info_of
from deeplesion.datasets.dl_info import group_by_key_slice, read_dl_info
from deeplesion.datasets.info_files import write_infos
from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.ground_truth import cases_of_coco, read_cases
from tests.deeplesion.datasets.helpers import row_of, write_csv


def image(number: int, name: str, **changes: object) -> dict[str, Any]:
    """An image of the COCO layout."""
    known = {"width": 64, "height": 48, "slice_intv": 2.0, "spacing": 0.8, "z_position": 0.4}
    return {"id": number, "file_name": name, **known, "windows": [-175.0, 275.0], **changes}


def box(number: int, corners: object, **changes: object) -> dict[str, Any]:
    """A box of the COCO layout."""
    return {"image_id": number, "bbox": corners, "category_id": 1, "noisy": 0, **changes}


def coco(images: list[Any], boxes: list[Any]) -> dict[str, Any]:
    """A ground truth of the COCO layout."""
    return {"images": images, "annotations": boxes, "categories": []}


def test_coco() -> None:
    content = coco(
        [image(3, "000002_01_01/007.png"), image(8, "000001_01_01/112.png", slice_intv=None)],
        [box(3, [10, 20, 5, 6]), box(3, [60, 40, 9, 9.5]), box(8, [1, 2, 3, 4])],
    )
    first, second = cases_of_coco(content, "gt.json")
    assert (first.file_name, second.file_name) == ("000001_01_01_112.png", "000002_01_01_007.png")
    np.testing.assert_array_equal(second.lesions, [[10, 20, 15, 26], [60, 40, 63, 47]])
    assert (second.image_id, second.patient, second.key_slice) == (3, "000002", 7)
    assert (second.slice_interval, second.spacing, second.window) == (2, 0.8, (-175, 275))
    np.testing.assert_array_equal(second.heights, [0.4, 0.4])
    np.testing.assert_array_equal(second.coarse_types, [-1, -1])
    assert np.isnan(second.long_axes).all()
    assert np.isnan(first.slice_interval)


def test_coco_drops_noisy_boxes_and_images_of_nothing_else() -> None:
    names = ["000001_01_01/001.png", "000001_01_01/002.png", "000001_01_01/003.png"]
    content = coco(
        [image(number, name) for number, name in enumerate(names)],
        [box(0, [1, 1, 5, 5]), box(0, [9, 9, 5, 5], noisy=1), box(1, [1, 1, 5, 5], noisy=1)],
    )
    cases = cases_of_coco(content, "gt.json")
    assert [case.key_slice for case in cases] == [1, 3]
    assert [len(case.lesions) for case in cases] == [1, 0]
    noisy = cases_of_coco(content, "gt.json", keep_noisy=True)
    assert [len(case.lesions) for case in noisy] == [2, 1, 0]


GOOD = image(1, "000001_01_01/005.png")


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        ([GOOD, GOOD], [], "entry 1 of images has the id 1 of another entry"),
        ([{"file_name": "a"}], [], "entry 0 of images must have a whole number as id"),
        ([image(1, "picture")], [], "image 1 must have a file_name like"),
        ([image(1, "x_5.png", spacing="1")], [], "spacing must be a number, or null"),
        ([image(1, "x_5.png", windows=[5, 5])], [], "windows must be low < high in HU"),
        ([image(1, "x_5.png", windows=5)], [], "windows must be 2 numbers in HU, got 5"),
        ([GOOD], [box(2, [1, 1, 2, 2])], "entry 0 of annotations has image_id 2, of which"),
        ([GOOD], [box(1, [1, 1, 0, 2])], "entry 0 of annotations must have image_id and bbox"),
        ([GOOD], [box(1, [1, 1, float("nan"), 2])], "must have image_id and bbox"),
        ([GOOD], [box(1, [90, 1, 5, 5])], "image 000001_01_01/005.png has a box outside it"),
        ([GOOD, image(2, "000001_01_01_005.png")], [], "000001_01_01_005.png is there twice"),
        (None, [], "gt.json must have a list of images, got a NoneType"),
    ],
)
def test_malformed_coco_is_refused(images: Any, boxes: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        cases_of_coco(coco(images, boxes), "gt.json")


def test_every_layout_gives_the_same_boxes(tmp_path: Path) -> None:
    rows = [row_of("000001_01_01", 5, split=3), row_of("000002_01_01", 7, split=1)]
    table = write_csv(tmp_path / "DL_info.csv", rows)
    groups = group_by_key_slice(read_dl_info(table))
    write_infos(tmp_path / "infos.json", map(info_of, groups))
    content = coco([image(1, "000001_01_01/005.png")], [box(1, [10, 16, 20, 18])])
    (tmp_path / "coco.json").write_text(json.dumps(content))
    for name in ("DL_info.csv", "infos.json", "coco.json"):
        (case,) = read_cases(tmp_path / name, "test")
        assert case.file_name == "000001_01_01_005.png"
        np.testing.assert_array_equal(case.lesions, [[10, 16, 30, 34]])
    with pytest.raises(DataError, match=r"no key slice of split 'val'"):
        read_cases(table, "val")


def test_the_published_validation_split(shared_data: Path) -> None:
    cases = read_cases(shared_data / "deeplesion_val_coco.json")
    as_table = read_cases(shared_data / "DL_info_val.csv", "val")
    assert (len(cases), sum(len(case.lesions) for case in cases)) == (4791, 4887)
    assert [case.file_name for case in cases] == [case.file_name for case in as_table]
    for case, other in zip(cases, as_table, strict=True):
        np.testing.assert_allclose(case.lesions, other.lesions, atol=1e-9)
        assert case.patient == other.patient
