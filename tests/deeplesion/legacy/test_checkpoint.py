"""Weights there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.legacy.checkpoint import KEPT, KEPT_TYPES, convert_weights, restore_file
from deeplesion.legacy.files import split_file
from tests.deeplesion.legacy.published import FAMILY_NAMES, checkpoint, state_dict

CLS, REG = "bbox_head.fc_cls.weight", "bbox_head.fc_reg.weight"


def converted(content: dict[str, Any]) -> dict[str, Any]:
    """A converted file."""
    file = split_file(content)
    weights = convert_weights(file.state)
    return {"state_dict": weights.state, KEPT: weights.kept(file)}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """The same names in the same order, the same bits."""
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].numpy().tobytes() == b[name].numpy().tobytes(), name


def test_classes_are_turned_and_rows_taken_out() -> None:
    state = state_dict("a3d", classes=2)
    weights = convert_weights(state)
    ours = weights.state
    assert torch.equal(ours[f"roi_head.{CLS}"], state[CLS][[1, 2, 0]])
    assert torch.equal(ours[f"roi_head.{REG}"], state[REG][4:])
    assert torch.equal(weights.dropped[REG], state[REG][:4])
    assert weights.turned == [CLS, "bbox_head.fc_cls.bias"]
    unused = [name for name in weights.dropped if name.endswith("adaptive_align_weights")]
    assert unused == [
        "backbone.conv0.adaptive_align_weights",
        "backbone.transition1.conv.adaptive_align_weights",
        "backbone.transition2.conv.adaptive_align_weights",
    ]
    assert weights.renamed["backbone.lateral2.bias"] == "neck.laterals.0.bias"
    assert not weights.dtypes


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_round_trip_is_exact(name: str) -> None:
    content = checkpoint(name, 7)
    content["state_dict"]["bbox_head.fc_reg.bias"][5] = float("nan")
    content["state_dict"]["bbox_head.fc_cls.bias"][0] = -0.0
    back = restore_file(converted(content))
    assert back["meta"] == content["meta"]
    assert_same(back["state_dict"], content["state_dict"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float_and_half_again(dtype: torch.dtype) -> None:
    half = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state_dict("a3d").items()}
    content = converted({"state_dict": {f"module.{k}": v for k, v in half.items()}})
    kinds = {tensor.dtype for tensor in content["state_dict"].values()}
    assert kinds == {torch.float32, torch.int64}
    back = restore_file(content)
    assert back.keys() == {"state_dict"}
    assert list(back["state_dict"]) == [f"module.{name}" for name in half]
    for name, tensor in half.items():
        assert back["state_dict"][f"module.{name}"].dtype == tensor.dtype
        assert torch.equal(back["state_dict"][f"module.{name}"], tensor)


def test_double_precision_goes_back_where_it_fits() -> None:
    state = {k: v.double() if v.is_floating_point() else v for k, v in state_dict("tsm").items()}
    assert_same(restore_file(converted({"state_dict": state}))["state_dict"], state)
    state[REG][0, 0] = 1 / 3
    with pytest.raises(CheckpointError, match=rf"not be exact: 1 weights were rounded \({REG}\)"):
        restore_file(converted({"state_dict": state}))


def test_the_source_is_left_alone() -> None:
    state = state_dict("align")
    before = {name: tensor.clone() for name, tensor in state.items()}
    weights = convert_weights(state)
    weights.state[f"roi_head.{REG}"].zero_()
    weights.state[f"roi_head.{CLS}"].zero_()
    assert_same(state, before)


def test_trained_weights_go_back_with_the_rows_that_were_kept() -> None:
    content = converted(checkpoint("align"))
    content["state_dict"][f"roi_head.{REG}"] += 1
    back = restore_file(content)["state_dict"][REG]
    original = state_dict("align")[REG]
    assert torch.equal(back[:4], original[:4])
    assert torch.equal(back[4:], original[4:] + 1)


def with_entry(content: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**content, KEPT: {**content[KEPT], **changes}}


def test_there_is_no_way_back_where_it_would_not_be_exact() -> None:
    content = converted(checkpoint("align"))
    with pytest.raises(CheckpointError, match=r"rows of background in bbox_head.fc_reg and"):
        restore_file({"state_dict": content["state_dict"]})
    with pytest.raises(CheckpointError, match=r"that tools/convert_checkpoint.py made"):
        restore_file(checkpoint("align"))
    with pytest.raises(CheckpointError, match="another version of this tool"):
        restore_file(with_entry(content, version=99))
    extra = {**content["state_dict"], "new.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"1 weights were not published \(new.weight\)"):
        restore_file({**content, "state_dict": extra})
    less = {k: v for k, v in content["state_dict"].items() if k != "neck.laterals.0.bias"}
    with pytest.raises(CheckpointError, match=r"neck.laterals.0.bias is missing"):
        restore_file({**content, "state_dict": less})


@pytest.mark.parametrize("content", [{}, {"meta": {}}])
def test_files_come_back_as_they_were_wrapped(content: dict[str, Any]) -> None:
    content = {**content, "state_dict": state_dict("tsm")}
    assert restore_file(converted(content)).keys() == content.keys()
    bare = restore_file(converted(content["state_dict"]))
    assert_same(bare, content["state_dict"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, ...) for name in KEPT_TYPES),
        ("prefix", 5),
        ("meta", 5),
        ("names", [1]),
        ("names", ["backbone.lateral" + "9" * 5000 + ".bias"]),
        ("dropped", {REG: 1}),
        ("dropped", {}),
        ("dtypes", {CLS: "load"}),
        ("dtypes", {CLS: []}),
    ],
)
def test_what_was_kept_is_checked(name: str, value: object) -> None:
    content = with_entry(converted(checkpoint("a3d")), **{name: value})
    if value is ...:
        del content[KEPT][name]
    with pytest.raises(CheckpointError, match=rf"way back is damaged: {KEPT}\.{name}"):
        restore_file(content)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [(REG, torch.zeros(4, 7)), (CLS, torch.tensor(1.0))],
)
def test_weights_of_another_shape_do_not_go_back(name: str, tensor: Tensor) -> None:
    content = converted(checkpoint("align"))
    content["state_dict"][f"roi_head.{name}"] = tensor
    with pytest.raises(CheckpointError, match=rf"roi_head.{name} has another shape, \("):
        restore_file(content)


def test_half_precision_that_was_trained_on_does_not_go_back() -> None:
    state = state_dict("tsm")
    state[CLS] = state[CLS].half()
    content = converted({"state_dict": state})
    content["state_dict"][f"roi_head.{CLS}"] += 1e-6
    with pytest.raises(CheckpointError, match=f"{CLS} was float16 and has changed since"):
        restore_file(content)
