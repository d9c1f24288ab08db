"""The published spelling of the converter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tests.alignshift.converter.networks import EveryLayer, volume

THICKNESS = torch.tensor([[0.1], [5.0]])


def test_the_published_lines_work_word_for_word() -> None:
    from alignshift import AlignShiftConv, Converter

    m = torchvision.models.resnet18()
    alignshift_conv_cfg = dict(
        conv_type=AlignShiftConv,
        n_fold=8,
        alignshift=True,
        inplace=True,
        ref_spacing=0.2,
        shift_padding_zero=True,
    )
    before = dict(alignshift_conv_cfg)
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        m = Converter(
            m,
            alignshift_conv_cfg,
            additional_forward_fts=["thickness"],
            skip_first_conv=True,
            first_conv_input_channles=1,
        )
    x, thickness = volume(), THICKNESS
    out = m(x, thickness)
    assert out.shape == (2, 1000, 3)
    assert isinstance(m, nn.Module)
    assert alignshift_conv_cfg == before
    assert m.model.layer1[0].conv1.ref_thickness == 0.2
    assert m.model.layer1[0].conv1.shift_padding_zero
    assert {str(w.message) for w in caught} == {
        "ref_spacing is now called ref_thickness",
        "first_conv_input_channles is now called first_conv_in_channels",
    }
    assert {w.filename for w in caught} == {__file__}


@pytest.mark.parametrize(
    "cfg",
    [
        {"conv_type": "TSMConv", "n_fold": 4, "tsm": True},
        {"conv_type": "A3DConv", "dimension": 3, "enable_shift": True},
    ],
)
def test_it_is_convert_to_3d(cfg: dict[str, Any]) -> None:
    from alignshift import Converter, convert_to_3d

    model = EveryLayer().eval()
    torch.manual_seed(0)
    old = Converter(model, cfg, None, True, 1)
    torch.manual_seed(0)
    settings = {name: value for name, value in cfg.items() if name != "conv_type"}
    new = convert_to_3d(model, cfg["conv_type"], **settings)
    assert torch.equal(old(volume()), new(volume()))
    assert old.report == new.report


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"conv_cfg": {"n_fold": 8}},
            ValueError,
            r"conv_cfg must have a conv_type, got \['n_fold'\]",
        ),
        (
            {"additional_forward_fts": ["age"]},
            ValueError,
            r"\['thickness'\] or empty, got \['age'\]",
        ),
        ({"additional_forward_fts": "age"}, ValueError, r"or empty, got \['age'\]"),
        ({"conv_cfg": None}, TypeError, "conv_cfg must be a dict with a conv_type, got None"),
        ({"first_convs": 1}, TypeError, r"no argument \['first_convs'\]"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    from alignshift import Converter

    with pytest.raises(error, match=message):
        Converter(EveryLayer(), **{"conv_cfg": {"conv_type": "TSMConv"}, **arguments})


def test_what_forward_takes_may_be_one_word() -> None:
    from alignshift import Converter

    cfg = {"conv_type": "AlignShiftConv"}
    assert Converter(EveryLayer(), cfg, "thickness")(volume(), THICKNESS).shape == (2, 5, 3)


def test_warnings_point_at_the_line_that_calls() -> None:
    from alignshift import Converter, convert_to_3d

    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    with pytest.warns(UserWarning, match="slices are not mixed") as caught:
        Converter(model, {"conv_type": "TSMConv"})
    with pytest.warns(UserWarning, match="slices are not mixed") as caught_too:
        convert_to_3d(model, "TSMConv")
    assert [w.filename for w in (*caught, *caught_too)] == [__file__] * 2


def test_an_old_and_a_new_name_at_once_are_refused() -> None:
    from alignshift import Converter

    cfg = {"conv_type": "AlignShiftConv", "ref_spacing": 1.0, "ref_thickness": 2.0}
    with pytest.raises(ValueError, match="ref_thickness was given twice, as ref_spacing too"):
        Converter(EveryLayer(), cfg)
