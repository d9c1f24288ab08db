"""timm's networks as 2D backbones."""

from __future__ import annotations

import sys

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from mmdet.registry import MODELS

from deeplesion.models.timm_backbone import TimmBackbone
from tests.deeplesion.models.test_slice_backbone import build, inputs

timm = pytest.importorskip("timm")


def test_it_gives_the_feature_maps_of_timm() -> None:
    backbone = TimmBackbone("resnet18", out_indices=(1, 3)).eval()
    reference = timm.create_model("resnet18", features_only=True, out_indices=(1, 3)).eval()
    reference.load_state_dict(backbone.network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    for own, expected in zip(backbone(images), reference(images), strict=True):
        assert torch.equal(own, expected)
    assert (backbone.out_channels, backbone.strides) == ((64, 256), (4, 16))


def test_maps_with_channels_last_are_turned() -> None:
    backbone = TimmBackbone("swin_tiny_patch4_window7_224", out_indices=(0, 3), img_size=64)
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert [level.shape for level in maps] == [(1, 96, 16, 16), (1, 768, 2, 2)]


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "resnetv2_50"])
def test_inside_a_slice_backbone(name: str) -> None:
    backbone = build({"type": "TimmBackbone", "model_name": name, "out_indices": (1, 2, 3)})
    backbone.init_weights()
    assert [level.shape[2] for level in backbone(inputs())] == [3, 3, 3]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of timm's, got 'resnet17'; see .*resnet"):
        MODELS.build({"type": "TimmBackbone", "model_name": "resnet17"})


def test_without_timm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'deeplesion-alignshift\[timm\]'"):
        TimmBackbone("resnet18")
