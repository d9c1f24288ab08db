"""Any 2D backbone of mmdetection on stacks of slices."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from alignshift import OPERATORS, AlignShiftConv
from deeplesion.models.inputs import CTInputs
from deeplesion.models.slice_backbone import SliceBackbone

DEPTH = 3
RESNET: dict[str, Any] = {"type": "ResNet", "depth": 18}
STAGE = {"num_modules": 1, "block": "BASIC"}
WIDTHS = (8, 16, 24, 32)
HRNET_STAGES = {
    f"stage{n}": {
        **STAGE,
        "num_branches": n,
        "num_blocks": (1,) * n,
        "num_channels": WIDTHS[:n],
        **({"block": "BOTTLENECK"} if n == 1 else {}),
    }
    for n in (1, 2, 3, 4)
}
DCN = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
BACKBONES: dict[str, dict[str, Any]] = {
    "resnet": RESNET,
    "resnext": {"type": "ResNeXt", "depth": 50, "groups": 32, "base_width": 4},
    "resnet-dcn": {
        "type": "ResNet",
        "depth": 50,
        "base_channels": 16,
        "dcn": DCN,
        "stage_with_dcn": (False, True, True, True),
    },
    "res2net": {"type": "Res2Net", "depth": 50, "base_channels": 16},
    "resnest": {"type": "ResNeSt", "depth": 50},
    "regnet": {"type": "RegNet", "arch": "regnetx_400mf"},
    "hrnet": {"type": "HRNet", "extra": HRNET_STAGES},
    "vgg": {"type": "SSDVGG", "depth": 16, "out_feature_indices": (22, 34)},
    "darknet": {"type": "Darknet", "depth": 53},
    "csp-darknet": {"type": "CSPDarknet", "widen_factor": 0.25, "deepen_factor": 0.33},
    "cspnext": {"type": "CSPNeXt", "widen_factor": 0.25, "deepen_factor": 0.33},
    "mobilenet": {"type": "MobileNetV2", "widen_factor": 0.5},
    "efficientnet": {"type": "EfficientNet", "arch": "b0"},
    "pvt": {"type": "PyramidVisionTransformerV2", "num_layers": [1, 1, 1, 1]},
}


def build(backbone: dict[str, Any] = RESNET, **kwargs: Any) -> SliceBackbone:
    """A backbone as a config has it."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    operator = {"type": "AlignShiftConv", "n_fold": 8}
    settings = {"operator": operator, "num_slices": DEPTH, "backbone": backbone, **kwargs}
    return MODELS.build({"type": "SliceBackbone", **settings})


def inputs(size: int = 64, depth: int = DEPTH) -> CTInputs:
    """Two stacks of different thickness."""
    generator = torch.Generator().manual_seed(1)
    volume = torch.randn(2, 1, depth, size, size, generator=generator)
    return CTInputs(volume, torch.tensor([2.0, 5.0]))


def maps_2d(backbone: dict[str, Any], weights: dict[str, Tensor], volume: Tensor) -> list[Tensor]:
    """What the 2D backbone with these weights gives on every slice, as maps of volumes."""
    model = MODELS.build(backbone)
    model.eval()
    model.load_state_dict(weights)
    out = model(volume.transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1))
    return [level.unflatten(0, volume.shape[:3:2]).transpose(1, 2) for level in out]


@pytest.mark.parametrize("name", list(BACKBONES))
def test_backbones_of_mmdetection(name: str) -> None:
    backbone = build(BACKBONES[name])
    backbone.init_weights()
    maps = backbone(inputs())
    assert isinstance(maps, tuple)
    assert all(level.shape[:3:2] == (2, DEPTH) for level in maps)
    sum(level.square().mean() for level in maps).backward()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in trained)
    assert len(backbone.report.converted) > 10


@pytest.mark.parametrize("operator", list(OPERATORS))
def test_every_operator(operator: str) -> None:
    backbone = build(operator=operator)
    assert {type(m).__name__ for m in backbone.modules()} >= {operator}
    assert [level.shape[1] for level in backbone(inputs())] == [64, 128, 256, 512]


def test_without_mixing_it_is_the_2d_backbone_on_every_slice() -> None:
    backbone = build(operator={"type": "TSMConv", "tsm": False}).eval()
    weights = MODELS.build(RESNET).state_dict()
    kernel = weights["conv1.weight"].sum(1, keepdim=True)
    backbone.load_state_dict({**weights, "conv1.weight": kernel})
    x = inputs()
    for level, expected in zip(backbone(x), maps_2d(RESNET, weights, x.volume), strict=True):
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-4)


def test_names_are_those_of_the_2d_backbone() -> None:
    init_default_scope("mmdet")
    assert list(build().state_dict()) == list(MODELS.build(RESNET).state_dict())


def test_it_initializes_itself_as_the_2d_backbone_does() -> None:
    backbone = build()
    backbone.init_weights()
    conv = backbone.model.layer3[0].conv2
    # Kaiming's normal distribution of mmdetection, not PyTorch's uniform one.
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert type(conv) is AlignShiftConv
    assert torch.equal(backbone.model.layer1[0].bn2.weight, torch.zeros(64))


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_pretrained_2d_weights(place: str, tmp_path: Path, caplog: Any) -> None:
    weights = torchvision.models.resnet18().state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "resnet18.pth")}
    inside = {**RESNET, "init_cfg": init_cfg}
    backbone = build(inside) if place == "inside" else build(init_cfg=init_cfg)
    with caplog.at_level(logging.INFO, "mmengine"):
        backbone.init_weights()
    own = backbone.state_dict()
    assert torch.equal(own["layer4.1.conv2.weight"], weights["layer4.1.conv2.weight"])
    torch.testing.assert_close(own["conv1.weight"], weights["conv1.weight"].sum(1, keepdim=True))
    assert inside["init_cfg"] == init_cfg


def test_frozen_stages_and_statistics_stay_frozen() -> None:
    backbone = build({**RESNET, "frozen_stages": 1, "norm_eval": True}).train()
    frozen = [backbone.model.conv1, *backbone.model.layer1.modules()]
    assert not any(p.requires_grad for m in frozen for p in m.parameters(recurse=False))
    assert not any(m.training for m in backbone.modules() if isinstance(m, nn.BatchNorm2d))


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for with_cp in (False, True):
        backbone = build({**RESNET, "with_cp": with_cp})
        backbone(inputs(32))[-1].square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    for expected, got in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected)


def test_a3d_takes_the_number_of_slices() -> None:
    assert build(operator="A3DConv").model.layer1[0].conv1.dimension == DEPTH


def test_named_convolutions_can_be_left_alone() -> None:
    backbone = build(skip=[r"layer[1-3]\..*"])
    assert {path.partition(".")[0] for path in backbone.report.converted} == {"layer4"}


def test_another_number_of_slices_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 slices \(num_slices of the backbone\), got 5: set"):
        build()(inputs(depth=5))


@pytest.mark.parametrize(
    ("operator", "error", "message"),
    [
        ("Shift", ValueError, "operator must be one of"),
        ({"type": "TSMConv", "ref_thickness": 2.0}, TypeError, "settings of TSMConv must be of"),
        ({"type": "TSMConv", "n_fold": 1}, ValueError, "n_fold must be between 2"),
    ],
)
def test_wrong_operators_are_named(operator: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(operator=operator)
