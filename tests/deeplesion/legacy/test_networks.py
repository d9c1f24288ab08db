"""Which network weights are of."""

from __future__ import annotations

import pytest
import torch

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.legacy.families import FAMILIES
from deeplesion.legacy.networks import recognize, unknown_names
from tests.deeplesion.legacy.published import (
    BLOCKS,
    FAMILY_NAMES,
    FC,
    FEAT,
    GROWTH,
    INIT,
    MASK,
    NECK,
    state_dict,
)

HEAD = "model.roi_head"


@pytest.mark.parametrize("slices", [1, 3, 7])
@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_operator_and_slices(name: str, slices: int) -> None:
    network = recognize(state_dict(name, slices))
    expected = {"align", "tsm"} if name in ("align", "tsm") else {name}
    assert {family.name for family in network.families} == expected
    assert network.num_slices == slices
    settings = network.settings(FAMILIES[name])
    assert settings.items() >= FAMILIES[name].slice_settings(slices).items()
    assert settings["model.backbone.type"] == FAMILIES[name].backbone


def test_widths() -> None:
    widths = recognize(state_dict("align", classes=3)).widths
    assert widths["model.backbone.num_init_features"] == INIT
    assert widths["model.backbone.growth_rate"] == GROWTH
    assert widths["model.backbone.bn_size"] == 2
    assert widths["model.backbone.block_config"] == [*BLOCKS]
    assert widths["model.neck.in_channels"] == [20, 18, 13]
    assert widths["model.neck.out_channels"] == NECK
    assert widths["model.rpn_head.feat_channels"] == FEAT
    assert widths[f"{HEAD}.bbox_head.fc_out_channels"] == FC
    assert widths[f"{HEAD}.bbox_head.roi_feat_size"] == 7
    assert widths[f"{HEAD}.bbox_head.num_classes"] == 3
    assert widths[f"{HEAD}.bbox_head.reg_class_agnostic"] is False
    assert widths[f"{HEAD}.mask_head.num_convs"] == 2
    assert widths[f"{HEAD}.mask_head.conv_out_channels"] == MASK
    assert widths[f"{HEAD}.mask_head.num_classes"] == 3


def test_heads_that_share_boxes_and_masks_among_classes() -> None:
    state = state_dict("tsm", classes=2)
    state["bbox_head.fc_reg.weight"] = torch.zeros(4, FC)
    state["mask_head.conv_logits.weight"] = torch.zeros(1, MASK, 1, 1)
    widths = recognize(state).widths
    assert widths[f"{HEAD}.bbox_head.reg_class_agnostic"] is True
    assert widths[f"{HEAD}.mask_head.class_agnostic"] is True


def test_detectors_without_masks() -> None:
    state = {k: v for k, v in state_dict("tsm").items() if not k.startswith("mask_head.")}
    assert recognize(state).widths[f"{HEAD}.mask_head"] is None


def test_others_are_refused_by_their_first_names() -> None:
    state = {
        "backbone.layer1.0.weight": torch.zeros(1),
        **state_dict("a3d"),
        "neck.convs.0.weight": torch.zeros(1),
        "a": torch.zeros(1),
        "b": torch.zeros(1),
    }
    assert unknown_names(state) == ["backbone.layer1.0.weight", "neck.convs.0.weight", "a", "b"]
    del state["neck.convs.0.weight"]
    message = r"3 of its \d+ weights are not known \(backbone.layer1.0.weight, a, b\)"
    with pytest.raises(CheckpointError, match=message):
        recognize(state)
    state["c"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"4 of its .*weight, a, b, \.\.\.\)"):
        recognize(state)


@pytest.mark.parametrize(
    "missing", ["backbone.conv0.weight", "backbone.lateral3.weight", "bbox_head.fc_cls.weight"]
)
def test_what_is_missing_is_named(missing: str) -> None:
    state = state_dict("align")
    del state[missing]
    with pytest.raises(CheckpointError, match=f"it has no {missing}"):
        recognize(state)


def test_odd_shapes_are_named() -> None:
    state = {**state_dict("align"), "backbone.conv0.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"must have 4 dimensions, got shape \(3,\)"):
        recognize(state)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("backbone.denseblock1.denselayer99.norm1.weight", 2),
        ("backbone.denseblock1.denselayer0.norm1.weight", 2),
        ("backbone.denseblock9.denselayer1.norm1.weight", 4),
        ("mask_head.convs.7.conv.bias", 3),
    ],
)
def test_numbers_without_those_before_them_are_named(name: str, number: int) -> None:
    message = rf"{name}: there are {number} of that kind, numbered from [01] without gaps"
    with pytest.raises(CheckpointError, match=message):
        recognize({**state_dict("align"), name: torch.zeros(4)})


@pytest.mark.parametrize("number", ["999999", "9" * 5000, "01", "\u0663"])
@pytest.mark.parametrize("name", ["backbone.denseblock1.denselayer{}.norm1", "backbone.lateral{}"])
def test_numbers_that_no_network_has_are_not_known(name: str, number: str) -> None:
    weight = f"{name.format(number)}.weight"
    with pytest.raises(CheckpointError, match=rf"1 of its \d+ weights are not known \({weight}\)"):
        recognize({**state_dict("align"), weight: torch.zeros(4)})


@pytest.mark.parametrize("shape", [(0, 3), ()])
def test_empty_weights_are_named(shape: tuple[int, ...]) -> None:
    state = {**state_dict("align"), "bbox_head.fc_reg.bias": torch.zeros(shape)}
    with pytest.raises(CheckpointError, match=r"bbox_head.fc_reg.bias must hold weights, got"):
        recognize(state)


def test_our_own_are_told() -> None:
    with pytest.raises(CheckpointError, match="one of this project already"):
        recognize({"neck.laterals.0.weight": torch.zeros(1)})
