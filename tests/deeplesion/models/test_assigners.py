"""Tests of matching predictions that are not finite."""

from __future__ import annotations

import math

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData

from tests.configs.shrinking import load

COSTS = load("a3d/dino_a3d-r50_7x2mm_20e_deeplesion.py").model.train_cfg.assigner
TRUTH = InstanceData(bboxes=torch.tensor([[10.0, 10.0, 30.0, 30.0]]), labels=torch.tensor([0]))
META = {"img_shape": (64, 64)}


def matched(kind: str, boxes: list[list[float]], scores: list[float]) -> list[int]:
    """Numbers of the lesions, from 1, that predictions are matched to; 0 for none."""
    predictions = InstanceData(bboxes=torch.tensor(boxes), scores=torch.tensor(scores).unsqueeze(1))
    assigner = TASK_UTILS.build({**COSTS, "type": kind})
    return assigner.assign(predictions, TRUTH, img_meta=META).gt_inds.tolist()


def test_finite_predictions_are_matched_as_ever() -> None:
    boxes, scores = [[40.0, 40.0, 60.0, 60.0], [11.0, 10.0, 30.0, 31.0]], [1.0, -1.0]
    assert matched("FiniteHungarianAssigner", boxes, scores) == [0, 1]
    assert matched("HungarianAssigner", boxes, scores) == [0, 1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_others_are_matched_to_something(value: float) -> None:
    boxes = [[value, 40.0, 60.0, 60.0], [11.0, 10.0, 30.0, 31.0]]
    assert sorted(matched("FiniteHungarianAssigner", boxes, [value, value])) == [0, 1]
