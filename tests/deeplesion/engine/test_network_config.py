"""Faults of a network's config that can be told before it is built."""

from __future__ import annotations

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest

from deeplesion.engine.network_config import check_backbone, check_operator, network_slices


def test_known_backbones_pass() -> None:
    check_backbone({})
    check_backbone({"type": "ResNet", "depth": 50})
    check_backbone({"type": "DenseNetTrunc3d", "operator": "TSMConv"})
    operator = {"type": "AlignShiftConv", "n_fold": 4, "ref_thickness": 5.0}
    for inner in ("ResNeXt", "TimmBackbone"):
        check_backbone({"type": "SliceBackbone", "operator": operator, "backbone": {"type": inner}})


def test_unknown_backbone_lists_ours_first() -> None:
    message = (
        r"^model\.backbone\.type must be a registered backbone, got 'DenseNetTypo': SliceBackbone "
        r"\(operators: A3DConv, .*TSMConv\), TimmBackbone, DenseNetCustomTrunc, "
        r".*DenseNetTrunc3d or one of mmdetection's$"
    )
    with pytest.raises(ValueError, match=message):
        check_backbone({"type": "DenseNetTypo"})


def test_unknown_inner_backbone_is_named_with_its_path() -> None:
    config = {"type": "SliceBackbone", "operator": "TSMConv", "backbone": {"type": "ResNett"}}
    with pytest.raises(ValueError, match=r"^model\.backbone\.backbone\.type must be.*'ResNett'"):
        check_backbone(config)


@pytest.mark.parametrize("operator", ["NoConv", {"type": "NoConv"}, {"n_fold": 8}])
def test_unknown_operator_lists_the_known_ones(operator: str | dict) -> None:
    got = "'NoConv'" if "NoConv" in str(operator) else "None"
    message = rf"^model\.backbone\.operator must be one of A3DConv, .*TSMConv, got {got}$"
    with pytest.raises(ValueError, match=message):
        check_backbone({"type": "SliceBackbone", "operator": operator})


def test_settings_of_another_operator_are_named() -> None:
    message = (
        r"^model\.backbone\.operator must have settings of TSMConv \(n_fold, tsm, inplace\), got "
        r"alignshift, ref_thickness: `_delete_=True` beside `type` drops those of another operator$"
    )
    with pytest.raises(ValueError, match=message):
        check_operator({"type": "TSMConv", "ref_thickness": 2.0, "alignshift": True, "n_fold": 8})
    with pytest.raises(ValueError, match=r"settings of SliceConv \(it has none\), got n_fold"):
        check_operator({"type": "SliceConv", "n_fold": 8})


def test_values_that_suit_no_layer_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^model\.backbone\.operator: n_fold must be .*got 1$"):
        check_operator({"type": "TSMConv", "n_fold": 1})
    with pytest.raises(ValueError, match=r"^model\.backbone\.operator: .*got 0"):
        check_operator({"type": "A3DConv", "dimension": 0})


def test_slices_of_every_part() -> None:
    assert network_slices({}) == {}
    neck = [{"type": "SliceCollapse", "num_slices": 5}, {"type": "FPN"}]
    backbone = {"type": "SliceBackbone", "num_slices": 7}
    found = {"model.backbone": 7, "model.neck.0": 5}
    assert network_slices({"backbone": backbone, "neck": neck}) == found
    neck_25d = {"type": "SliceCollapseFPN", "num_slices": 1}
    backbone = {"type": "DenseNetCustomTrunc", "num_slices": 3}
    assert network_slices({"backbone": backbone, "neck": neck_25d}) == {"model.backbone": 3}
