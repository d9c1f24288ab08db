"""The registered backbones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import HistoryBuffer, MMLogger

from alignshift import models as native
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.models.inputs import CTInputs, StemInputs
from deeplesion.models.pretrained import resolve_checkpoint
from tests.deeplesion.models.detectors import CHANNELS, TINY

FACES = {
    "DenseNetCustomTrunc3dAlign": {},
    "DenseNetCustomTrunc3dTSM": {},
    "DenseNetCustomTrunc3dA3D": {"num_slices": 5},
    "DenseNetCustomTrunc": {"num_slices": 5},
}


def stack(depth: int = 5) -> CTInputs:
    generator = torch.Generator().manual_seed(0)
    return CTInputs(torch.randn(2, 1, depth, 64, 32, generator=generator), torch.tensor([2.0, 5.0]))


@pytest.mark.parametrize(("name", "options"), FACES.items())
def test_shapes(name: str, options: dict) -> None:
    backbone = MODELS.build({"type": name, **TINY, **options})
    depth = 1 if name == "DenseNetCustomTrunc" else 5
    shapes = [tuple(level.shape) for level in backbone(stack())]
    assert shapes == [
        (2, channels, depth, 64 // stride, 32 // stride)
        for channels, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


@pytest.mark.parametrize(("name", "options"), FACES.items())
def test_slices_may_have_been_through_the_stem(name: str, options: dict) -> None:
    backbone = MODELS.build({"type": name, **TINY, **options}).eval()
    assert backbone.slicewise_stem == (name != "DenseNetCustomTrunc")
    if backbone.slicewise_stem:
        volume, thickness = stack()
        one_by_one = [backbone.forward_stem(volume[:, :, [z]]) for z in range(volume.shape[2])]
        found = backbone(StemInputs(torch.cat(one_by_one, 2), thickness))
        for level, expected in zip(found, backbone(stack()), strict=True):
            torch.testing.assert_close(level, expected)


@pytest.mark.parametrize("name", ["DenseNetCustomTrunc3dA3D", "DenseNetCustomTrunc"])
def test_wrong_number_of_slices_is_named(name: str) -> None:
    backbone = MODELS.build({"type": name, **TINY, "num_slices": 5})
    with pytest.raises(ValueError, match=r"5.*3"):
        backbone(stack(depth=3))


def test_unknown_operator_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"A3DConv, .*AlignShiftConv.*TSMConv, got .NoSuchConv"):
        MODELS.build({"type": "DenseNetTrunc3d", "operator": "NoSuchConv"})


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What mmengine's current logger is told."""
    handler, logger = Lines(), MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def test_pretrained_2d_weights_load_and_the_rest_is_reported(
    tmp_path: Path, logged: list[str]
) -> None:
    source = MODELS.build({"type": "DenseNetCustomTrunc3dTSM", **TINY})
    weights = {f"features.{key}": value for key, value in source.state_dict().items()}
    color = torch.randn(8, 3, 7, 7)
    weights["features.conv0.weight"] = color
    weights["classifier.weight"] = torch.zeros(1000, 16)
    file = tmp_path / "densenet.pth"
    torch.save(weights, file)
    init_cfg = {"type": "Pretrained", "checkpoint": str(file)}
    backbone = MODELS.build({"type": "DenseNetCustomTrunc3dAlign", **TINY, "init_cfg": init_cfg})
    backbone.init_weights()
    torch.testing.assert_close(backbone.conv0.weight, color.sum(1, keepdim=True))
    key = "denseblock2.denselayer1.conv2.weight"
    assert torch.equal(backbone.state_dict()[key], source.state_dict()[key])
    assert "skipped classifier.* (1)" in "".join(logged)


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "none.pth")}
    backbone = MODELS.build({"type": "DenseNetCustomTrunc3dAlign", **TINY, "init_cfg": init_cfg})
    with pytest.raises(CheckpointError, match=r"none\.pth does not exist"):
        backbone.init_weights()


def test_weights_of_a_detector_that_was_trained_load(tmp_path: Path) -> None:
    source = MODELS.build({"type": "DenseNetCustomTrunc3dTSM", **TINY})
    weights = {f"backbone.{key}": value for key, value in source.state_dict().items()}
    history = {"log_scalars": {"loss": HistoryBuffer([1.0], [1])}}
    torch.save({"state_dict": weights, "message_hub": history}, tmp_path / "epoch_1.pth")
    torch.save({"model": weights}, tmp_path / "plain.pth")
    for file in ("epoch_1.pth", "plain.pth"):
        init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / file)}
        options = {**TINY, "init_cfg": init_cfg}
        backbone = MODELS.build({"type": "DenseNetCustomTrunc3dAlign", **options})
        backbone.init_weights()
        assert torch.equal(backbone.conv0.weight, source.conv0.weight)


def test_several_initializations_are_refused() -> None:
    with pytest.raises(TypeError, match=r"init_cfg of DenseNetCustomTrunc3dTSM must be one dict"):
        MODELS.build(
            {"type": "DenseNetCustomTrunc3dTSM", **TINY, "init_cfg": [{"type": "Kaiming"}]}
        )


def test_torchvision_names_resolve_to_their_url() -> None:
    assert resolve_checkpoint("torchvision://densenet121").endswith(".pth")
    assert resolve_checkpoint("weights.pth") == "weights.pth"


def test_norm_eval_keeps_the_statistics() -> None:
    backbone = MODELS.build({"type": "DenseNetCustomTrunc3dAlign", **TINY, "norm_eval": True})
    backbone.train()
    before = backbone.norm0.running_mean.clone()
    backbone(stack())
    assert torch.equal(before, backbone.norm0.running_mean)


@pytest.mark.parametrize(
    "name", [name for name in FACES if name.startswith("DenseNetCustomTrunc3d")]
)
def test_are_the_native_networks(name: str) -> None:
    """The same maps from the same names, on one channel where the native ones take three."""
    options = TINY | FACES[name]
    backbone = MODELS.build({"type": name, **options}).eval()
    network = getattr(native, name)(in_channels=1, **options).eval()
    assert isinstance(backbone, getattr(native, name))
    network.load_state_dict(backbone.state_dict())
    inputs = stack()
    for actual, expected in zip(backbone(inputs), network(*inputs), strict=True):
        assert torch.equal(actual, expected)


def test_defaults_are_those_of_ct() -> None:
    for name in FACES:
        channels = 3 if name == "DenseNetCustomTrunc" else 1
        assert MODELS.build({"type": name, **TINY}).conv0.in_channels == channels
    a3d = MODELS.build({"type": "DenseNetCustomTrunc3dA3D", **TINY})
    assert a3d.denseblock1.denselayer1.conv1.dimension == 3


@pytest.mark.parametrize("name", FACES)
def test_classes_belong_to_the_heads(name: str) -> None:
    message = rf"{name} is a backbone and must not have num_classes, got 2: give it to the heads"
    with pytest.raises(TypeError, match=message):
        MODELS.build({"type": name, **TINY, "num_classes": 2})
