"""Tests of the loading transforms, and of the whole pipeline with mmdetection's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

pytest.importorskip("mmdet")

from mmcv.transforms import Compose
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope

import deeplesion  # noqa: F401
from deeplesion.datasets.ct import SliceError
from deeplesion.datasets.lesion_record import DataError
from deeplesion.transforms.loading import LoadCTSlices, LoadLesionAnnotations
from tests.deeplesion.datasets.helpers import write_series

SERIES = "000001_01_01"
META_KEYS = (
    *("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction"),
    *("thickness", "slice_interval", "instances", "file_name", "window", "spacing"),
    *("key_slice", "series", "image_root"),
)


@pytest.fixture(autouse=True)
def _mmdet_scope() -> Any:
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture
def sample(tmp_path: Path) -> dict:
    write_series(tmp_path, SERIES, range(1, 10))
    return {
        "image_root": str(tmp_path / "Images_png"),
        "series": SERIES,
        "key_slice": 5,
        "slice_interval": 0.8,
        "height": 64,
        "width": 48,
        "row": 17,
    }


def test_thin_slices_are_interpolated(sample: dict) -> None:
    results = LoadCTSlices(num_slices=3)(sample)
    assert results["img"].shape == (64, 48, 3)
    assert results["img"].dtype == np.float32
    assert results["img"][0, 0] == pytest.approx([25, 50, 75], abs=1e-4)
    assert results["img_shape"] == results["ori_shape"] == (64, 48)
    assert (results["thickness"], results["num_slices"]) == (2.0, 3)


@pytest.mark.parametrize(
    ("interval", "mode", "values", "thickness"),
    [
        (5.0, "thin", [40, 50, 60], 5.0),
        (5.0, "always", [46, 50, 54], 2.0),
        (2.0, "thin", [40, 50, 60], 2.0),
        (math.nan, "thin", [40, 50, 60], math.nan),
        (None, "always", [40, 50, 60], math.nan),
        (-1.0, "thin", [40, 50, 60], math.nan),
    ],
)
def test_thickness(
    sample: dict, interval: float | None, mode: Any, values: list[float], thickness: float
) -> None:
    results = LoadCTSlices(3, interpolate=mode)(sample | {"slice_interval": interval})
    assert results["img"][0, 0] == pytest.approx(values, abs=1e-4)
    assert results["thickness"] == pytest.approx(thickness, nan_ok=True)


@pytest.mark.parametrize(
    ("interval", "mode", "values"),
    [
        # Of two neighbors at 1.6 and 3.2 slices the second takes the first one's weight, 0.6.
        (1.25, "thin", [14, 34, 50, 66, 86]),
        (5.0, "thin", [30, 40, 50, 60, 70]),
        # At 0.4 and 0.8 slices: 0.4.
        (5.0, "always", [46, 46, 50, 54, 54]),
        (math.nan, "thin", [50] * 5),
        (None, "always", [50] * 5),
        (-1.0, "thin", [50] * 5),
    ],
)
def test_legacy(sample: dict, interval: float | None, mode: Any, values: list[float]) -> None:
    load = LoadCTSlices(5, interpolate=mode, legacy=True)
    results = load(sample | {"slice_interval": interval})
    assert results["img"][0, 0] == pytest.approx(values, abs=1e-4)
    told = math.nan if interval is None else interval
    assert results["thickness"] == pytest.approx(told, nan_ok=True)


def test_legacy_refuses_interval_0(sample: dict) -> None:
    with pytest.raises(ValueError, match="slice_interval must not be 0 mm with legacy=True"):
        LoadCTSlices(legacy=True)(sample | {"slice_interval": 0.0})


def test_errors_name_file_and_row(sample: dict) -> None:
    with pytest.raises(SliceError, match=r"099\.png is missing \(row 17 of DL_info\.csv\)"):
        LoadCTSlices()(sample | {"key_slice": 99})
    with pytest.raises(SliceError, match=r"005\.png must have 64 x 64 px.*\(row 17 of DL_info"):
        LoadCTSlices()(sample | {"width": 64})


def test_even_num_slices() -> None:
    with pytest.raises(ValueError, match=r"num_slices must be odd and >= 1.*got 4"):
        LoadCTSlices(num_slices=4)


def test_repr() -> None:
    expected = "LoadCTSlices(num_slices=7, slice_interval=2.0, interpolate='always', legacy=False)"
    assert repr(LoadCTSlices(7, interpolate="always")) == expected


def test_lesions_without_masks(sample: dict) -> None:
    lesion = {"bbox": [1, 2, 3, 4], "bbox_label": 0, "ignore_flag": 0}
    results = sample | {"instances": [lesion], "ori_shape": (64, 48), "file_name": "a.png"}
    with pytest.raises(DataError, match=r"a\.png has lesions without masks.*make_masks\.py"):
        LoadLesionAnnotations(with_bbox=True, with_mask=True)(dict(results))
    loaded = LoadLesionAnnotations(with_bbox=True)(dict(results))
    assert loaded["gt_bboxes"].tensor.tolist() == [[1, 2, 3, 4]]


def train_pipeline(num_slices: int, with_mask: bool = True) -> list[dict]:
    return [
        {"type": "LoadCTSlices", "num_slices": num_slices, "slice_interval": 2.0},
        {"type": "LoadLesionAnnotations", "with_bbox": True, "with_mask": with_mask},
        {"type": "WindowCT"},
        {"type": "Resize", "scale": (96, 96), "keep_ratio": True},
        {"type": "RandomCTFlip", "prob": 0.5},
        {"type": "RandomCTAffine", "prob": 1.0},
        {"type": "PadCT", "size_divisor": 64},
        {"type": "PackDetInputs", "meta_keys": META_KEYS},
    ]


def test_pipeline_on_synthetic_masks(synthetic_root: Path) -> None:
    for num_slices in (1, 3, 7):
        data = DATASETS.build(
            {
                "type": "DeepLesionDataset",
                "data_root": str(synthetic_root),
                "split": "train",
                "mask_file": "masks_{split}.json",
                "pipeline": train_pipeline(num_slices),
            }
        )
        packed = data[0]
        inputs, target = packed["inputs"], packed["data_samples"]
        assert inputs.shape == (num_slices, 128, 128)
        assert inputs.dtype == torch.float32
        assert -50 <= inputs.min() < inputs.max() <= 205
        assert set(target.metainfo_keys()) == set(META_KEYS)
        count = len(target.gt_instances)
        assert target.gt_instances.masks.masks.shape == (count, 128, 128)
        assert target.gt_instances.bboxes.tensor.shape == (count, 4)
        assert target.img_shape == (128, 128)
        assert target.ori_shape == (64, 64)


@pytest.mark.parametrize("num_slices", [1, 3, 7])
def test_pipeline_on_real_slices(shared_data: Path, num_slices: int) -> None:
    pipeline = train_pipeline(num_slices, with_mask=False)
    pipeline[3] = {"type": "Resize", "scale": (512, 512), "keep_ratio": True}
    data = DATASETS.build(
        {
            "type": "DeepLesionDataset",
            "data_root": str(shared_data / "deeplesion_mini"),
            "split": "val",
            "pipeline": pipeline,
        }
    )
    assert data[0]["inputs"].shape == (num_slices, 512, 512)


@pytest.mark.parametrize("num_slices", [1, 3, 7])
def test_flip_moves_slices_boxes_and_masks_alike(sample: dict, num_slices: int) -> None:
    mask = np.zeros((64, 48), np.uint8, order="F")
    mask[10:20, 4:16] = 1
    rle = coco_mask.encode(mask)
    lesion = {"bbox": [4, 10, 15, 19], "bbox_label": 0, "ignore_flag": 0}
    lesion["mask"] = {"size": [64, 48], "counts": rle["counts"].decode()}
    compose = Compose(
        [
            {"type": "LoadLesionAnnotations", "with_bbox": True, "with_mask": True},
            {"type": "RandomCTFlip", "prob": 1.0},
            {"type": "PackDetInputs", "meta_keys": ("flip",)},
        ]
    )
    stack = np.repeat(mask[..., None], num_slices, axis=-1).astype(np.float32)
    results = sample | {"img": stack, "img_shape": (64, 48), "ori_shape": (64, 48)}
    packed = compose(results | {"instances": [lesion]})
    target = packed["data_samples"].gt_instances
    assert target.bboxes.tensor.tolist() == [[32, 10, 43, 19]]
    expected = mask[:, ::-1]
    assert np.array_equal(target.masks.masks[0], expected)
    assert all(np.array_equal(plane, expected) for plane in packed["inputs"].numpy())
