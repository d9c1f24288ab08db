"""Fusing predictions.json files: boxes, masks, and what does not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.prediction_fusion import fuse_predictions, read_member

NAME, OTHER = "000001_01_01_010.png", "000002_01_01_020.png"
Entry = dict[str, Any]


def rle(columns: range) -> dict[str, Any]:
    """A mask of some columns of 4 x 8 px."""
    mask = np.zeros((4, 8), np.uint8, order="F")
    mask[:, list(columns)] = 1
    encoded = coco_mask.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}


def write(path: Path, *entries: Entry) -> Path:
    """A file of predictions."""
    path.write_text(json.dumps({"meta": {"checkpoint": path.stem}, "images": list(entries)}))
    return path


def entry(name: str, *rows: list[float], masks: list | None = None) -> Entry:
    """Predictions for an image."""
    found = {"img_id": 0, "file_name": name, "bboxes": list(rows)}
    return found if masks is None else {**found, "masks": masks}


def test_fuses_boxes_and_votes_on_masks(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.json",
        entry(NAME, [0, 0, 5, 3, 0.6], masks=[rle(range(6))]),
        entry(OTHER, masks=[]),
    )
    second = write(
        tmp_path / "b.json",
        entry(OTHER, [0, 0, 3, 3, 0.5], masks=[rle(range(4))]),
        entry(NAME, [1, 0, 5, 3, 0.3], masks=[rle(range(1, 6))]),
    )
    fused = fuse_predictions([read_member(first), read_member(second)])
    boxes, masks = fused[NAME]
    np.testing.assert_allclose(boxes, [[1 / 3, 0, 5, 3, 0.45]])
    assert masks is not None
    assert coco_mask.decode(masks[0])[0].tolist() == [1] * 6 + [0] * 2  # the weightier one's
    boxes, masks = fused[OTHER]
    np.testing.assert_allclose(boxes, [[0, 0, 3, 3, 0.25]])
    assert masks == [rle(range(4))]


def test_no_masks_where_a_member_has_none(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", entry(NAME, [0, 0, 5, 3, 0.6], masks=[rle(range(6))]))
    second = write(tmp_path / "b.json", entry(NAME, [0, 0, 5, 3, 0.6]))
    boxes, masks = fuse_predictions([read_member(first), read_member(second)])[NAME]
    assert masks is None
    np.testing.assert_allclose(boxes, [[0, 0, 5, 3, 0.6]])


def test_members_of_other_images_are_named(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path / "a.json", entry(NAME)),
        write(tmp_path / "b.json", entry(OTHER)),
    )
    message = rf"2: .*b\.json lacks image {NAME} \(1 in all\) that 1: .*a\.json has"
    with pytest.raises(DataError, match=message):
        fuse_predictions([read_member(first), read_member(second)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be a predictions.json of tools/test.py, got a list"),
        ({"images": [entry(NAME, [0, 0, 5, 3, 0.6], masks=[])]}, "a mask for each of its boxes"),
        ({"images": [entry(NAME, [9, 0, 5, 3, 0.6])]}, "box 0: must have x1 <= x2"),
    ],
)
def test_malformed_files_are_named(content: Any, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_member(tmp_path / "a.json")


def test_logits_are_refused(tmp_path: Path) -> None:
    member = read_member(write(tmp_path / "a.json", entry(NAME, [0, 0, 5, 3, -1.5])))
    with pytest.raises(DataError, match=rf"image {NAME} has scores < 0"):
        fuse_predictions([member, member])


def test_weights_of_members_count_for_masks_as_for_boxes(tmp_path: Path) -> None:
    one = write(tmp_path / "a.json", entry(NAME, [0, 0, 5, 3, 0.9], masks=[rle(range(6))]))
    two = write(tmp_path / "b.json", entry(NAME, [1, 0, 5, 3, 0.8], masks=[rle(range(1, 6))]))
    _, masks = fuse_predictions([read_member(one), read_member(two)], [1, 100])[NAME]
    assert masks is not None
    assert coco_mask.decode(masks[0])[0].tolist() == [0] + [1] * 5 + [0] * 2
