"""GrabCut masks against those of the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from deeplesion.datasets.masks import grabcut_mask, lesion_mask, published_gray, wrap_to_uint8
from tests.deeplesion.datasets.helpers import row_of, write_csv, write_slice
from tools.make_masks import main

SERIES = "000001_01_01"
SEEDS = [(0, "masks_seed0_each"), (12345, "masks_seed12345")]


@pytest.fixture(scope="module")
def golden(goldens: Path) -> dict[str, NDArray[Any]]:
    """The image, what GrabCut was given, boxes, end points and masks."""
    with np.load(goldens / "masks" / "grabcut.npz") as stored:
        return {name: stored[name] for name in stored}


@pytest.fixture(scope="module")
def facts(goldens: Path) -> dict[str, Any]:
    """What is said of them."""
    return json.loads((goldens / "masks" / "grabcut.json").read_text())


@pytest.fixture(scope="module")
def hu(golden: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The slice in HU, of which the golden image is the window -1024 to 2050, minus 50."""
    values = (golden["image"] + 50) / 255 * 3074 - 1024
    np.testing.assert_allclose(values, np.rint(values), atol=1e-9)
    return np.rint(values)


def test_the_image_that_grabcut_was_given(
    golden: dict[str, NDArray[Any]], facts: dict[str, Any], hu: NDArray[np.float64]
) -> None:
    np.testing.assert_array_equal(wrap_to_uint8(golden["image"]), golden["image_uint8"])
    np.testing.assert_array_equal(published_gray(hu), golden["image_uint8"])
    for value, wrapped in facts["uint8_wrap"].items():
        assert wrap_to_uint8(float(value)) == wrapped, value


@pytest.mark.parametrize(("seed", "name"), SEEDS)
def test_legacy_gives_every_mask(golden: dict[str, NDArray[Any]], seed: int, name: str) -> None:
    gray = golden["image_uint8"]
    assert len(golden[name])
    for i, mask in enumerate(golden[name]):
        box, recist = golden["bboxes"][i], golden["recists"][i]
        made = lesion_mask(gray, box, recist, seed=seed, legacy=True)
        assert made.source == "grabcut"
        np.testing.assert_array_equal(made.mask, mask)
        np.testing.assert_array_equal(grabcut_mask(gray, box, recist, seed=seed), mask)


def test_legacy_gives_the_masks_of_one_seed_for_all(golden: dict[str, NDArray[Any]]) -> None:
    cv2.setRNGSeed(0)
    for box, recist, mask in zip(
        golden["bboxes"], golden["recists"], golden["masks_seed0_once"], strict=True
    ):
        made = lesion_mask(golden["image_uint8"], box, recist, seed=None, legacy=True)
        np.testing.assert_array_equal(made.mask, mask)


def pixels(values: NDArray[Any]) -> str:
    """Coordinates as DL_info.csv has them, counted from 1."""
    return ", ".join(repr(float(value) + 1) for value in values)


@pytest.fixture
def data_root(golden: dict[str, NDArray[Any]], hu: NDArray[np.float64], tmp_path: Path) -> Path:
    """The golden slice and its lesions as a data set."""
    height, width = hu.shape
    write_slice(tmp_path / "Images_png" / SERIES / "005.png", hu, (height, width))
    rows = [
        row_of(
            SERIES,
            5,
            Bounding_boxes=pixels(box),
            Measurement_coordinates=pixels(recist),
            Image_size=f"{height}, {width}",
        )
        for box, recist in zip(golden["bboxes"], golden["recists"], strict=True)
    ]
    write_csv(tmp_path / "DL_info.csv", rows)
    return tmp_path


def masks_of(data_root: Path, *options: str) -> tuple[list[NDArray[np.uint8]], dict[str, Any]]:
    """Masks of the training split by the command line, and what the file says of them."""
    out = data_root / "masks.json"
    arguments = ["--data-root", str(data_root), "--split", "train", "--out", str(out)]
    assert main([*arguments, *options]) == 0
    content = json.loads(out.read_text())
    ((_, lesions),) = content["masks"].items()
    return [coco_mask.decode(lesion) for lesion in lesions], content["meta"]


@pytest.mark.parametrize(("seed", "name"), SEEDS)
def test_the_tool_makes_the_published_masks(
    golden: dict[str, NDArray[Any]], data_root: Path, seed: int, name: str
) -> None:
    masks, meta = masks_of(data_root, "--legacy", "--seed", str(seed))
    np.testing.assert_array_equal(masks, golden[name])
    assert (meta["source"], meta["grabcut"]) == ("published grabcut", len(masks))


def test_by_default_the_tool_cuts_in_the_window_of_the_slice(
    golden: dict[str, NDArray[Any]], data_root: Path
) -> None:
    """No other part of the image than in the goldens, but other masks, of another image."""
    masks, meta = masks_of(data_root)
    assert meta["source"] == "grabcut"
    assert not np.array_equal(masks, golden["masks_seed0_each"])
    for mask, box in zip(masks, golden["bboxes"], strict=True):
        rows, columns = np.nonzero(mask)
        assert int(box[0]) <= columns.min() <= columns.max() <= box[2]
        assert int(box[1]) <= rows.min() <= rows.max() <= box[3]
