"""Loading checkpoints that fit, and refusing others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from alignshift.operators import AlignShiftConv, TSMConv
from deeplesion.engine.checkpoint import CheckpointError, describe_operators
from deeplesion.engine.fit import check_fit, load_fitting, revise_names


def test_loads_what_fits_whatever_it_was_wrapped_in(tmp_path: Path) -> None:
    saved, model = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(saved.weight, 3.0)
    weights = {f"module.{name}": value for name, value in saved.state_dict().items()}
    del weights["module.num_batches_tracked"]  # old files lack it
    torch.save({"state_dict": weights, "meta": {"epoch": 7}}, tmp_path / "a.pth")
    assert load_fitting(tmp_path / "a.pth", model)["meta"] == {"epoch": 7}
    assert model.weight.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.zeros(2, 2)}, r"1 missing \(bias\)"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"1 of another shape \(weight"),
        ({"else": torch.zeros(2)}, "none of its 1 weights"),
    ],
)
def test_refuses_what_does_not_fit(tmp_path: Path, weights: dict, message: str) -> None:
    torch.save(weights, tmp_path / "a.pth")
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    with pytest.raises(CheckpointError, match=f"a.pth does not fit the config: .*{message}"):
        load_fitting(tmp_path / "a.pth", model)
    assert torch.equal(model.weight, before)


def test_refuses_another_operator_with_the_same_weights() -> None:
    tsm, align = TSMConv(8, 8, 1), AlignShiftConv(8, 8, 1)
    checkpoint = {"state_dict": tsm.state_dict(), "meta": {"operators": describe_operators(tsm)}}
    check_fit("a.pth", checkpoint, tsm)
    with pytest.raises(CheckpointError, match="trained with TSMConv, the config has AlignShiftCon"):
        check_fit("a.pth", checkpoint, align)


def test_names_are_revised_in_turn() -> None:
    changes = [(r"^module\.", ""), (r"^old\.", "new.")]
    assert list(revise_names({"module.old.weight": 1, "module.bias": 2}, changes)) == [
        "new.weight",
        "bias",
    ]
