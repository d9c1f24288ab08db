"""Compiled backbones and necks against those that are not."""

from __future__ import annotations

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from torch import nn

import deeplesion  # noqa: F401
from deeplesion.engine.compilation import compile_parts
from deeplesion.engine.config import UsageError
from deeplesion.models.inputs import CTInputs

WHOLE_GRAPH = {"fullgraph": True, "backend": "aot_eager"}
DENSENET = {
    "backbone": {
        "type": "DenseNetCustomTrunc3dAlign",
        "growth_rate": 8,
        "block_config": (1, 1, 1),
        "num_init_features": 16,
    },
    "neck": {
        "type": "SliceCollapseFPN",
        "in_channels": (24, 20, 18),
        "out_channels": 16,
        "num_slices": 3,
    },
}
RESNET = {
    "backbone": {
        "type": "SliceBackbone",
        "operator": "TSMConv",
        "num_slices": 3,
        # Two of its four stages: each takes seconds to trace.
        "backbone": {
            "type": "ResNet",
            "depth": 18,
            "base_channels": 8,
            "num_stages": 2,
            "strides": (1, 2),
            "dilations": (1, 1),
            "out_indices": (0, 1),
        },
    },
    "neck": {"type": "SliceCollapse", "in_channels": (8, 16), "num_slices": 3},
}


def build(config: dict) -> nn.Module:
    """A backbone and a neck, as parts of a module."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return nn.ModuleDict({name: MODELS.build(part) for name, part in config.items()}).eval()


@pytest.mark.parametrize("config", [DENSENET, RESNET], ids=["densenet", "resnet"])
def test_backbone_and_neck_are_one_graph_each(config: dict) -> None:
    torch._dynamo.reset()
    plain = build(config)
    compiled = copy.deepcopy(plain)
    compile_parts(compiled, ["backbone", "neck"], WHOLE_GRAPH)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    inputs = CTInputs(torch.randn(2, 1, 3, 32, 32), torch.tensor([1.0, 5.0]))
    maps = [model["neck"](model["backbone"](inputs)) for model in (compiled, plain)]
    for actual, expected in zip(*maps, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    sum(level.sum() for level in maps[0]).backward()
    assert all(p.grad is not None for p in compiled.parameters())


def test_a_part_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"modules of ModuleDict \(backbone, neck\), got 'head'"):
        compile_parts(build(DENSENET), ["head"])
