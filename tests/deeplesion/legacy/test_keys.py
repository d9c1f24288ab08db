"""Published names and orders of classes."""

from __future__ import annotations

import pytest
import torch

from deeplesion.legacy.keys import current_name, current_tensor

NAMES = {
    "backbone.conv0.weight": "backbone.conv0.weight",
    "backbone.denseblock1.denselayer1.conv1.adaptive_align_weights": (
        "backbone.denseblock1.denselayer1.conv1.adaptive_align_weights"
    ),
    "backbone.reductionz1.reduction_z_conv.weight": "neck.collapse.reductions.0.weight",
    "backbone.reductionz3.reduction_z_conv.weight": "neck.collapse.reductions.2.weight",
    "backbone.lateral2.weight": "neck.laterals.0.weight",
    "backbone.lateral4.bias": "neck.laterals.2.bias",
    "rpn_head.rpn_cls.weight": "rpn_head.rpn_cls.weight",
    "bbox_head.shared_fcs.0.weight": "roi_head.bbox_head.shared_fcs.0.weight",
    "mask_head.convs.3.conv.bias": "roi_head.mask_head.convs.3.conv.bias",
}


@pytest.mark.parametrize(("published", "current"), NAMES.items())
def test_names_of_today(published: str, current: str) -> None:
    assert current_name(published) == current


@pytest.mark.parametrize("layer", ["conv0", "transition1.conv", "transition2.conv"])
def test_mixing_weights_that_mixed_nothing_have_no_name(layer: str) -> None:
    assert current_name(f"backbone.{layer}.adaptive_align_weights") is None


def test_background_goes_last_in_scores_and_out_of_the_rest() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0])
    assert current_tensor("bbox_head.fc_cls.bias", scores).tolist() == [1, 2, 0]
    assert scores.tolist() == [0, 1, 2]
    deltas = current_tensor("bbox_head.fc_reg.bias", torch.arange(12.0))
    assert deltas.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    masks = torch.arange(3.0).view(3, 1, 1, 1)
    assert current_tensor("mask_head.conv_logits.weight", masks).flatten().tolist() == [1, 2]


@pytest.mark.parametrize(("name", "rows"), [("bbox_head.fc_reg", 4), ("mask_head.conv_logits", 1)])
def test_what_all_classes_share_has_no_background(name: str, rows: int) -> None:
    tensor = torch.arange(float(rows))
    assert torch.equal(current_tensor(f"{name}.bias", tensor), tensor)
