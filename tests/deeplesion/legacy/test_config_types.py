"""Classes that an old config may name."""

from __future__ import annotations

from typing import Any

import pytest

from deeplesion.legacy.config_types import WHY, refuse_types
from deeplesion.legacy.ledger import Outcome, Status
from tests.deeplesion.legacy.mapping import ledger

LOSS = "model.rpn_head.loss_cls"
SAMPLER = "model.train_cfg.rpn.sampler"


def refused(settings: dict[str, Any]) -> dict[str, Outcome]:
    """What becomes of settings that are refused, by their paths."""
    found = ledger()
    found.settings |= settings
    refuse_types(found)
    assert not settings.keys() & found.settings.keys() & found.outcomes.keys()
    return {o.field: o for o in found.in_order() if o.note == WHY}


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        # Modules of Python, which an import would run.
        ({LOSS: {"type": "this"}}, "this"),
        ({f"{SAMPLER}.type": "this"}, "this"),
        ({LOSS: {"type": "CrossEntropyLoss", "a": [({"type": "this"},)]}}, "this"),
        # Registered, but they read and fetch files.
        ({LOSS: {"type": "TimmBackbone"}}, "TimmBackbone"),
        ({LOSS: {"type": "SmoothL1Loss", "init_cfg": {"type": "Pretrained"}}}, "Pretrained"),
        # mmcv looks this up by eval.
        ({"model.test_cfg.rcnn.nms.type": "exec"}, "exec"),
        ({LOSS: {"type": {"type": "SmoothL1Loss"}}}, "{'type': 'SmoothL1Loss'}"),
        ({LOSS: {"type": None}}, "None"),
    ],
)
def test_types_that_are_not_for_training_a_detector_fail(
    settings: dict[str, Any], value: str
) -> None:
    (path,) = settings
    assert refused(settings) == {path: Outcome(path, value, Status.LOST, WHY, essential=True)}


def test_an_optimizer_that_is_not_known_leaves_that_of_the_base() -> None:
    path = "optim_wrapper.optimizer"
    found = refused({path: {"type": "this", "lr": 1}})
    assert found == {path: Outcome(path, "this", Status.LOST, WHY, essential=False)}


@pytest.mark.parametrize(
    "settings",
    [
        {LOSS: {"type": "FocalLoss"}},
        {LOSS: {"type": "MaskDiceLoss"}},
        {f"{SAMPLER}.type": "OHEMSampler"},
        {"model.train_cfg.rpn.assigner": {"iou_calculator": {"type": "BboxOverlaps2D"}}},
        {"model.test_cfg.rcnn.nms.type": "soft_nms"},
        {"optim_wrapper.optimizer": {"type": "AdamW"}},
        {"model.type": "MaskRCNN", "param_scheduler": [{"type": "LinearLR"}]},
    ],
)
def test_what_trains_a_detector_is_taken(settings: dict[str, Any]) -> None:
    assert refused(settings) == {}
