"""Augmentations as steps of ours."""

from __future__ import annotations

from typing import Any

import pytest
from mmdet.registry import TRANSFORMS

import deeplesion  # noqa: F401
from deeplesion.legacy.config_steps import map_steps
from deeplesion.legacy.ledger import Ledger
from tests.deeplesion.legacy.mapping import essential, fields, lost

PIPELINE = {
    "train": [
        {
            "type": "RandomCTAffine",
            "shift_limit": 0.04,
            "scale_limit": 0.2,
            "rotate_limit": 15,
            "prob": 0.8,
            "min_visible": 0.0,
        },
        {"type": "ResizeCT", "scale": (512, 512), "keep_ratio": True},
        {"type": "RandomCTFlip", "prob": 0.5},
    ],
    "test": [{"type": "ResizeCT", "scale": (512, 512), "keep_ratio": True}],
}


def mapped(steps: list[Any], split: str = "test") -> tuple[list, dict[str, Any], Ledger]:
    """New steps and window of some old steps."""
    ledger = Ledger({"data": {split: {"pre_pipeline": steps}}})
    window = {"type": "WindowCT", "window": (-1024, 2050)}
    return map_steps(ledger, split, window), window, ledger


@pytest.mark.parametrize("split", PIPELINE)
def test_published_pipelines(split: str) -> None:
    ledger = Ledger({"data": fields()["data"]})
    steps = map_steps(ledger, split, {})
    assert steps == PIPELINE[split]
    assert ledger.settings == {"model.data_preprocessor.pad_size_divisor": 32}
    assert not lost(ledger.in_order())
    assert not [f for f in ledger.open_fields() if f.startswith(f"data.{split}.pre_pipeline")]
    for step in steps:
        TRANSFORMS.build(step)


def test_normalization_is_part_of_the_window() -> None:
    steps, window, _ = mapped([{"type": "Normalize", "mean": [50.0] * 3, "std": [2.0] * 3}])
    assert steps == []
    # ((x * 255 - 50) - 50) / 2
    assert (window["scale"], window["offset"]) == (127.5, -50.0)


def test_vertical_flips_stay_vertical() -> None:
    step = {"type": "RandomFlip", "flip_ratio": 0.3, "direction": "vertical"}
    new = {"type": "RandomCTFlip", "prob": 0.3, "direction": "vertical"}
    assert mapped([step])[0] == [new]


@pytest.mark.parametrize(
    "step",
    [
        {"type": "Expand", "ratio": 2},
        {"type": "Resize", "img_scale": [(512, 512), (600, 600)]},
        {"type": "Normalize", "mean": [1.0, 2.0], "std": [1.0, 1.0]},
        {"type": "Normalize", "mean": [1.0], "std": [0.0]},
        {"type": "Pad", "size": (640, 640)},
        {"type": "Albu", "transforms": [{"type": "Blur"}]},
        {"type": "Albu"},
        {"type": "RandomFlip", "flip_ratio": 0.5, "direction": "diagonal"},
    ],
)
def test_unknown_steps_change_results_in_tests_only(step: Any) -> None:
    for split, matters in (("train", False), ("test", True)):
        steps, _, ledger = mapped([step], split)
        assert steps == []
        assert set(lost(ledger.in_order())) == set(ledger.fields)
        assert bool(essential(ledger)) == matters


@pytest.mark.parametrize("steps", [3, [3], "abc", [{"type": "Resize", "img_scale": None}, 3]])
def test_what_is_no_list_of_steps_is_reported(steps: Any) -> None:
    _, _, ledger = mapped(steps)
    assert set(lost(ledger.in_order())) == set(ledger.fields) == set(essential(ledger))
