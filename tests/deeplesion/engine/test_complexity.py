"""From a config to the cost of its detector."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from torch import nn

import deeplesion  # noqa: F401  (registers everything)
from deeplesion.engine.complexity import (
    Complexity,
    build_detector,
    input_size,
    measure,
    set_num_slices,
    without_weights,
)
from deeplesion.engine.config import UsageError
from tests.tools.running import REPO_ROOT, SMALL

CONFIGS = REPO_ROOT / "configs"
R50 = {
    "retinanet": "alignshift/retinanet_alignshift-r50-fpn_7x2mm_20e_deeplesion.py",
    "dino": "alignshift/dino_alignshift-r50_7x2mm_20e_deeplesion.py",
}


def small(operator: str = "alignshift") -> Config:
    return Config.fromfile(SMALL.format(operator))


def measure_small(operator: str, num_slices: int | None = None) -> Complexity:
    """The small detectors take slices as large as they are stored."""
    return measure(small(operator), num_slices, (128, 128))


def test_input_is_what_the_config_says() -> None:
    cfg = Config.fromfile(CONFIGS / R50["retinanet"])
    assert input_size(cfg) == (7, 512, 512)
    assert input_size(cfg, num_slices=3) == (3, 512, 512)
    assert input_size(cfg, size=(96, 64)) == (7, 96, 64)
    with pytest.raises(UsageError, match="give --size"):
        input_size(small())


def test_scales_are_width_and_height() -> None:
    pipeline = [{"type": "LoadCTSlices", "num_slices": 3}, {"type": "Resize", "scale": (64, 96)}]
    cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    assert input_size(cfg) == (3, 96, 64)
    pipeline[1]["scale"] = 32
    cfg = Config({"test_dataloader": {"dataset": {"pipeline": pipeline}}})
    assert input_size(cfg) == (3, 32, 32)


def test_networks_that_do_not_fit_their_parts_are_named() -> None:
    cfg = small()
    cfg.model.neck.in_channels = [8, 8, 8]
    with pytest.raises(UsageError, match="MaskRCNN does not take a stack of 7 slices of 64 x 64"):
        measure(cfg, size=(64, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give --slices"),
        ({"num_slices": 3}, "give --size"),
        ({"num_slices": 4, "size": (8, 8)}, "must be odd and >= 1, got 4"),
        ({"num_slices": -1, "size": (8, 8)}, "must be odd and >= 1, got -1"),
        ({"num_slices": 3, "size": (8, 0)}, "must be >= 1 px, got 8 x 0"),
    ],
)
def test_inputs_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        input_size(Config({}), **arguments)


def test_weights_are_left_out_at_any_depth() -> None:
    cfg = ConfigDict(
        backbone={"pretrained": True, "backbone": {"checkpoint_path": "w.pth", "depth": 50}},
        neck=[{"type": "A", "pretrained": "x"}, {"sizes": (1, 2)}],
    )
    before = copy.deepcopy(cfg)
    left = without_weights(cfg)
    assert left.backbone == {"backbone": {"depth": 50}}
    assert left.neck == [{"type": "A"}, {"sizes": (1, 2)}]
    assert isinstance(left.backbone, ConfigDict)
    left.neck[1].sizes = ()
    assert cfg == before


def parts_of(cfg: Config) -> list[Any]:
    """Numbers of slices that the parts of a model are for."""
    set_num_slices(cfg.model, 5)
    necks = cfg.model.neck if isinstance(cfg.model.neck, list) else [cfg.model.neck]
    return [part.get("num_slices") for part in (cfg.model.backbone, *necks)]


@pytest.mark.parametrize(
    ("operator", "numbers"),
    [("alignshift", [None, 5]), ("tsm", [None, 5]), ("a3d", [5, 5]), ("25d", [5, 1])],
)
def test_number_of_slices_of_native_backbones(operator: str, numbers: list) -> None:
    assert parts_of(small(operator)) == numbers


def test_number_of_slices_of_converted_backbones() -> None:
    cfg = Config.fromfile(CONFIGS / R50["retinanet"])
    cfg.model.backbone.operator = {"type": "A3DConv", "dimension": 7}
    assert parts_of(cfg) == [5, 5, None]
    assert cfg.model.backbone.operator.dimension == 5


def multiply_adds(backbone: nn.Module, size: int) -> int:
    """Those of a DenseNet's convolutions for one slice: weights times pixels of their output."""
    strides = {"conv0": 2, "denseblock1": 4, "denseblock2": 8, "denseblock3": 16}
    # They average before they convolve.
    strides |= {"transition1": 8, "transition2": 16}
    return sum(
        module.weight.numel() * (size // strides[name.partition(".")[0]]) ** 2
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d)
    )


@pytest.mark.parametrize("operator", ["alignshift", "tsm", "a3d"])
def test_small_network_against_a_hand_count(operator: str) -> None:
    model = MODELS.build(small(operator).model)
    complexity = measure_small(operator)
    assert complexity.parameters.total == sum(p.numel() for p in model.parameters())
    assert complexity.counted.flops.backbone == 2 * 7 * multiply_adds(model.backbone, 128)


@pytest.mark.parametrize("operator", ["alignshift", "tsm", "a3d"])
def test_backbone_is_proportional_to_the_slices(operator: str) -> None:
    seven, three = (measure_small(operator, n).counted.flops for n in (7, 3))
    assert seven.backbone * 3 == three.backbone * 7
    assert seven.neck > three.neck
    assert seven.heads == three.heads


def test_25d_pays_for_slices_in_its_first_convolution_only() -> None:
    seven, three = (measure_small("25d", n) for n in (7, 3))
    weights = seven.parameters.backbone - three.parameters.backbone
    flops = seven.counted.flops.backbone - three.counted.flops.backbone
    assert flops == 2 * weights * 64**2


def test_config_is_not_changed_and_sizes_are_padded() -> None:
    cfg = small()
    before = copy.deepcopy(cfg.model.to_dict())
    complexity = measure(cfg, 3, (100, 33))
    assert complexity.input_size == (3, 128, 64)
    assert cfg.model.to_dict() == before


def test_r50_one_stage() -> None:
    complexity = measure(Config.fromfile(CONFIGS / R50["retinanet"]), 3, (128, 128))
    seven = measure(Config.fromfile(CONFIGS / R50["retinanet"]), 7, (128, 128))
    assert complexity.counted.flops.backbone * 7 == seven.counted.flops.backbone * 3
    # torchvision's ResNet-50 has 25.557 million, 2.049 of them in its classifier, and two channels
    # more in its first convolution.
    assert complexity.parameters.backbone == 25_557_032 - 2_049_000 - 2 * 64 * 7 * 7


def test_resnet50_computes_what_is_known_of_it() -> None:
    cfg = Config.fromfile(CONFIGS / R50["retinanet"])
    flops = measure(cfg, 1, (224, 224)).counted.flops.backbone
    # torchvision says 4.089 G multiply-adds, with a classifier and three channels.
    known = 4_089_184_256 - 2048 * 1000 - 2 * 64 * 49 * 112**2
    assert flops == 2 * known


def test_transformers_run_on_zeros() -> None:
    cfg = Config.fromfile(CONFIGS / R50["dino"])
    cfg.merge_from_dict({"model.num_queries": 20})
    complexity: Complexity = measure(cfg, 3, (128, 128))
    heads = complexity.counted.flops.heads
    assert not complexity.counted.unknown
    assert heads is not None
    # Six layers of encoder on 340 tokens: a feed-forward network and value and output projections.
    tokens, layer = 16**2 + 8**2 + 4**2 + 2**2, 2 * (2 * 256 * 2048 + 2 * 256 * 256)
    assert heads > 6 * tokens * layer
    with pytest.raises(UsageError, match="DINO does not take a stack of 3 slices of 128 x 128 px"):
        measure(Config.fromfile(CONFIGS / R50["dino"]), 3, (128, 128))


def test_settings_that_do_not_build_are_named() -> None:
    cfg = small()
    cfg.model.backbone.n_fold = 1
    with pytest.raises(UsageError, match=r"the model cannot be built: .*n_fold must be"):
        measure(cfg, size=(64, 64))


def test_detectors_of_images_are_refused() -> None:
    cfg = small()
    cfg.model.data_preprocessor = {"type": "DetDataPreprocessor"}
    with pytest.raises(UsageError, match=r"must be a CTDataPreprocessor.*got DetDataPreprocessor"):
        measure(cfg, size=(64, 64))
    with pytest.raises(UsageError, match="cannot be built"):
        build_detector({})


def test_no_weights_are_read(tmp_path: Path) -> None:
    cfg = Config.fromfile(CONFIGS / R50["retinanet"])
    missing = str(tmp_path / "missing.pth")
    cfg.model.backbone.backbone.init_cfg.checkpoint = missing
    timm = {"type": "TimmBackbone", "model_name": "resnet18", "pretrained": True}
    assert measure(cfg, 3, (64, 64)).parameters.total
    cfg.model.backbone.backbone = {**timm, "checkpoint_path": missing}
    cfg.model.neck[0].in_channels = [64, 128, 256, 512]
    cfg.model.neck[1].in_channels = [128, 256, 512]
    assert measure(cfg, 3, (64, 64)).parameters.backbone == 11_689_512 - 513_000 - 2 * 64 * 49
