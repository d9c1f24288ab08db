"""Preparing slices as a config's test pipeline does."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from deeplesion.engine.config import UsageError
from deeplesion.inference.pipeline import TRAINED_SIZE, SlicePipeline, pipeline_steps

LOAD = {"type": "LoadCTSlices", "num_slices": 3, "slice_interval": 2.0}
WINDOW = {"type": "WindowCT", "window": (0, 100), "scale": 1.0, "offset": 0.0}
PACK = {"type": "PackDetInputs"}


def resize(width: int, height: int, keep_ratio: bool = True) -> dict[str, Any]:
    """A step."""
    return {"type": "Resize", "scale": (width, height), "keep_ratio": keep_ratio}


def pipeline(*steps: dict[str, Any]) -> SlicePipeline:
    """A pipeline of those steps."""
    init_default_scope("mmdet")
    return SlicePipeline([LOAD, WINDOW, *steps, PACK])


def test_windows_and_resizes() -> None:
    prepared = pipeline(resize(16, 16)).prepare(np.full((4, 8), 25, np.float32))
    assert prepared.image.shape == prepared.meta["img_shape"] == (8, 16)
    assert prepared.image == pytest.approx(0.25)
    assert prepared.meta["ori_shape"] == (4, 8)
    assert prepared.meta["scale_factor"] == (2.0, 2.0)


def test_settings_of_the_stack_are_those_of_the_config() -> None:
    steps = pipeline()
    assert steps.offsets(0.8).tolist() == [-2.5, 0, 2.5]
    assert steps.offsets(5.0).tolist() == [-1, 0, 1]
    assert (steps.thickness(0.8), steps.thickness(5.0)) == (2.0, 5.0)


@pytest.mark.parametrize("side", [100, 122, 256, 512, 768])
def test_shift_takes_back_what_resizing_does_to_centers(side: int) -> None:
    steps = pipeline(resize(512, 512))
    position = side // 3
    line = np.zeros((side, side), np.float32)
    line[:, position] = 100
    prepared = steps.prepare(line)
    weights = prepared.image[prepared.image.shape[0] // 2]
    seen = np.average(np.arange(len(weights)), weights=weights)
    # A network that learned from slices of 512 px answers where it sees; heads divide by scale.
    answered = seen / prepared.meta["scale_factor"][0] + steps.box_shift(prepared)[0]
    assert answered == pytest.approx(position, abs=0.02 if side <= TRAINED_SIZE else 0.3)


def test_nothing_is_shifted_where_slices_are_as_in_training() -> None:
    for step in (resize(512, 512), resize(256, 256)):
        steps = pipeline(step)
        prepared = steps.prepare(np.zeros((TRAINED_SIZE, TRAINED_SIZE), np.float32))
        assert steps.box_shift(prepared).tolist() == [0, 0, 0, 0]
    steps = pipeline()
    assert steps.box_shift(steps.prepare(np.zeros((64, 48), np.float32))).tolist() == [0, 0, 0, 0]


def test_sides_are_shifted_apart() -> None:
    steps = pipeline(resize(512, 512, keep_ratio=False))
    prepared = steps.prepare(np.zeros((128, 256), np.float32))
    assert steps.box_shift(prepared).tolist() == [-0.25, -0.375, -0.25, -0.375]


def test_slices_may_be_padded() -> None:
    prepared = pipeline({"type": "PadCT", "size": (8, 6)}).prepare(np.ones((4, 4), np.float32))
    assert prepared.image.shape == (6, 8)
    assert prepared.image[5, 7] == -50


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "must begin with LoadCTSlices, got None"),
        ([WINDOW], "must begin with LoadCTSlices, got WindowCT"),
        (
            [LOAD, {"type": "RandomCTAffine"}],
            "step RandomCTAffine .* ResizeCT, PadCT only",
        ),
    ],
)
def test_pipelines_that_are_not_slice_by_slice_are_refused(steps: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SlicePipeline(steps)


def test_the_test_loader_comes_before_the_validation_loader() -> None:
    def loader(*steps: dict) -> dict:
        return {"dataset": {"type": "RepeatDataset", "dataset": {"pipeline": list(steps)}}}

    cfg = Config({"val_dataloader": loader(LOAD), "test_dataloader": loader(LOAD, WINDOW)})
    assert len(pipeline_steps(cfg)) == 2
    assert len(pipeline_steps(Config({"val_dataloader": loader(LOAD)}))) == 1
    with pytest.raises(UsageError, match="no pipeline in test_dataloader or val_dataloader"):
        pipeline_steps(Config({"model": {}}))


def test_slices_are_resized_as_stacks_are() -> None:
    stack = np.random.default_rng(0).normal(50, 20, (40, 30, 7)).astype(np.float32)
    whole = cv2.resize(np.clip(stack, 0, 100) / 100, (96, 128))
    steps = pipeline(resize(128, 128))
    for index in range(7):
        image = steps.prepare(np.ascontiguousarray(stack[..., index])).image
        np.testing.assert_allclose(image, whole[..., index], atol=1e-5)
