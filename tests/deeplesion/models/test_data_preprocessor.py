"""Batches of slice stacks."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.structures import DetDataSample

from deeplesion.models.data_preprocessor import CTDataPreprocessor
from deeplesion.models.inputs import CTInputs


def sample(**meta: object) -> DetDataSample:
    return DetDataSample(metainfo=meta)


def test_pads_stacks_and_attaches_thickness() -> None:
    data = {
        "inputs": [torch.full((3, 40, 64), 7.0), torch.full((3, 64, 50), 8.0)],
        "data_samples": [sample(thickness=2.0), sample(thickness=math.nan)],
    }
    batch = CTDataPreprocessor(pad_size_divisor=32)(data)
    inputs = batch["inputs"]
    assert isinstance(inputs, CTInputs)
    assert inputs.volume.shape == (2, 1, 3, 64, 64)
    assert inputs.volume[0, 0, :, :40].unique().tolist() == [7.0]
    assert inputs.volume[0, 0, :, 40:].unique().tolist() == [-50.0]
    assert inputs.thickness[0] == 2.0
    assert torch.isnan(inputs.thickness[1])
    assert batch["data_samples"][1].batch_input_shape == (64, 64)
    assert batch["data_samples"][0].pad_shape == (64, 64)


def test_missing_thickness_names_the_config_line() -> None:
    data = {
        "inputs": [torch.zeros(3, 32, 32)],
        "data_samples": [sample(img_path="000001_01_01/109.png")],
    }
    with pytest.raises(ValueError, match=r"109\.png has no thickness.*meta_keys of PackDetInputs"):
        CTDataPreprocessor()(data)


def test_no_samples_at_all() -> None:
    with pytest.raises(ValueError, match="data_samples is None"):
        CTDataPreprocessor()({"inputs": [torch.zeros(3, 32, 32)], "data_samples": None})


def test_mixed_depths_are_named() -> None:
    data = {
        "inputs": [torch.zeros(3, 32, 32), torch.zeros(5, 32, 32)],
        "data_samples": [sample(thickness=2.0)] * 2,
    }
    with pytest.raises(ValueError, match=r"same number of slices, got \[3, 5\]"):
        CTDataPreprocessor()(data)


def test_told_thickness_replaces_the_truth() -> None:
    data = {"inputs": [torch.zeros(1, 32, 32)], "data_samples": [sample(thickness=5.0)]}
    assert CTDataPreprocessor(told_thickness=2.0)(data)["inputs"].thickness.tolist() == [2.0]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_told_thickness_is_checked(value: float) -> None:
    with pytest.raises(ValueError, match="told_thickness must be > 0 mm"):
        CTDataPreprocessor(told_thickness=value)


def test_a_negative_thickness_is_refused_in_training() -> None:
    data = {
        "inputs": [torch.zeros(3, 32, 32), torch.zeros(3, 32, 32)],
        "data_samples": [sample(thickness=0.0), sample(thickness=-2.5, img_path="1/109.png")],
    }
    CTDataPreprocessor()(data, training=False)
    message = r"thickness must be > 0 mm, or NaN where it is unknown, got -2\.5 mm in sample 1/109"
    with pytest.raises(ValueError, match=message):
        CTDataPreprocessor()(data, training=True)
