"""From 2D networks to networks of slices: weights, layers, refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from alignshift import OPERATORS, AlignShiftConv, SliceConv, TSMConv, convert_to_3d
from tests.alignshift.converter.networks import DEPTH, EveryLayer, rgb_slices, volume

THICKNESS = torch.tensor([1.0, 5.0])
SETTINGS: dict[str, dict[str, Any]] = {"A3DConv": {"dimension": DEPTH}}
OFF: dict[str, dict[str, Any]] = {
    "SliceConv": {},
    "AlignShiftConv": {"alignshift": False},
    "TSMConv": {"tsm": False},
    "A3DConv": {"enable_shift": False},
    "I3DConv": {"inflate": "center"},
}


@pytest.mark.parametrize("operator", list(OPERATORS))
def test_every_operator_trains(operator: str) -> None:
    # I3D inflates its weight, which a weight norm computes of others.
    model = EveryLayer(weight_norm=operator != "I3DConv")
    net = convert_to_3d(model, operator, **SETTINGS.get(operator, {}))
    out = net(volume(), THICKNESS)
    assert out.shape == (2, 5, DEPTH)
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("operator", list(OFF))
def test_without_mixing_each_slice_gives_what_the_2d_network_gives(operator: str) -> None:
    model = EveryLayer(weight_norm=operator != "I3DConv").eval()
    net = convert_to_3d(model, operator, **OFF[operator])
    x = volume()
    expected = model(rgb_slices(x)).view(2, DEPTH, 5).transpose(1, 2)
    torch.testing.assert_close(net(x, THICKNESS), expected)


def test_mixing_carries_over_to_neighboring_slices() -> None:
    net = convert_to_3d(EveryLayer().eval(), AlignShiftConv)
    x = volume()
    other = x.clone()
    other[:, :, 1] += 1
    before, after = net(x, THICKNESS), net(other, THICKNESS)
    assert not torch.equal(before[:, :, 0], after[:, :, 0])
    # Infinitely thick slices do not know of each other.
    thick = torch.full((2,), float("inf"))
    assert torch.equal(net(x, thick)[:, :, 0], net(other, thick)[:, :, 0])


def test_each_stack_has_its_own_thickness() -> None:
    net = convert_to_3d(EveryLayer().eval(), AlignShiftConv)
    x = volume()
    together = net(x, THICKNESS)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], net(x[i : i + 1], THICKNESS[i : i + 1]))


def test_the_2d_network_is_left_alone() -> None:
    model = torchvision.models.resnet18()
    before, classes = copy.deepcopy(model.state_dict()), [type(m) for m in model.modules()]
    net = convert_to_3d(model, TSMConv)
    net(volume()).sum().backward()
    assert [type(m) for m in model.modules()] == classes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.conv1.in_channels == 3


def test_in_place_it_is_the_2d_network() -> None:
    model = torchvision.models.resnet18()
    conv = model.layer1[0].conv1
    net = convert_to_3d(model, TSMConv, in_place=True)
    assert net.model is model
    assert model.layer1[0].conv1 is conv
    assert isinstance(conv, TSMConv)


@pytest.mark.parametrize("operator", list(OPERATORS))
def test_frozen_convolutions_stay_frozen(operator: str) -> None:
    model = EveryLayer(weight_norm=operator != "I3DConv").requires_grad_(False)
    net = convert_to_3d(model, operator, **SETTINGS.get(operator, {}))
    learning = {name.rpartition(".")[2] for name, p in net.named_parameters() if p.requires_grad}
    assert len(net.report.converted) >= 2
    assert learning <= {"adaptive_align_weights"}


def test_first_and_named_convolutions_can_be_left_alone() -> None:
    net = convert_to_3d(
        torchvision.models.resnet18(), "TSMConv", skip=[r"layer[34]\..*", "layer1.0.conv1"]
    )
    assert net.report.skipped["conv1"] == "first convolution"
    assert net.report.skipped["layer1.0.conv1"] == net.report.skipped["layer4.0.conv1"] == "told to"
    assert {path.partition(".")[0] for path in net.report.converted} == {"layer1", "layer2"}
    assert type(net.model.conv1) is type(net.model.layer3[0].conv1) is nn.Conv2d
    with_first = convert_to_3d(EveryLayer(), "SliceConv", skip_first_conv=False)
    assert type(with_first.model.stem) is SliceConv


def test_narrow_convolutions_are_left_alone() -> None:
    net = convert_to_3d(EveryLayer(), AlignShiftConv, n_fold=8)
    assert net.report.skipped == {
        "stem": "first convolution",
        "layers.15": "fewer channels than n_fold = 8",
    }


def test_lazy_networks() -> None:
    model = nn.Sequential(
        nn.LazyConv2d(16, 3),
        nn.LazyBatchNorm2d(),
        nn.LazyConv2d(8, 3),
        nn.LazyConvTranspose2d(4, 2),
    )
    for operator in ("AlignShiftConv", "A3DConv", "I3DConv", "ACSConv"):
        net = convert_to_3d(model, operator, **SETTINGS.get(operator, {}))
        assert net(volume(), THICKNESS).shape == (2, 4, DEPTH, 13, 13)
        assert type(net.model[2]) is OPERATORS[operator]


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.* is deprecated:FutureWarning")
def test_networks_that_keep_computed_weights_can_be_copied() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.utils.weight_norm(nn.Conv2d(8, 8, 3)))
    net = convert_to_3d(model, TSMConv, tsm=False)
    expected = model(rgb_slices(volume())).view(2, DEPTH, 8, 12, 12).transpose(1, 2)
    torch.testing.assert_close(net(volume()), expected)


def test_lazy_convolutions_too_narrow_to_mix_are_left_alone() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConv2d(8, 3), nn.LazyConv2d(2, 1))
    net = convert_to_3d(model, AlignShiftConv)
    out = net(volume(), THICKNESS)
    assert [type(layer) for layer in net.model] == [nn.Conv2d, SliceConv, AlignShiftConv]
    assert out.shape == (2, 2, DEPTH, 12, 12)
    torch.testing.assert_close(net(volume(), THICKNESS), out)


@pytest.mark.parametrize("operator", list(OPERATORS))
def test_shared_weights_stay_shared(operator: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
    model[2].weight = model[1].weight
    net = convert_to_3d(model, operator, **SETTINGS.get(operator, {}))
    first, second, other = (layer.weight for layer in net.model[1:])
    assert first is second
    assert first is not other
    net(volume(), THICKNESS).sum().backward()
    assert first.grad is not None


def test_a_network_of_one_convolution() -> None:
    net = convert_to_3d(nn.Conv2d(16, 8, 3), TSMConv, in_channels=None, skip_first_conv=False)
    assert type(net.model) is TSMConv
    assert net(torch.rand(1, 16, DEPTH, 8, 8)).shape == (1, 8, DEPTH, 6, 6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_fold": 8.0}, TypeError, "n_fold must be an integer, got 8.0"),
        ({"n_fold": 1}, ValueError, r"n_fold must be between 2 .* got 1"),
        ({"n_fold": 17}, ValueError, r"number of channels \(16\), got 17"),
        ({"ref_thickness": -1.0}, ValueError, "ref_thickness must be > 0 mm"),
        (
            {"fold": 3},
            TypeError,
            r"settings of AlignShiftConv must be of n_fold, .* got \['fold'\]",
        ),
    ],
)
def test_wrong_settings_are_named_and_change_nothing(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = EveryLayer()
    with pytest.raises(error, match=message):
        convert_to_3d(model, AlignShiftConv, in_place=True, **settings)
    assert not any(isinstance(m, SliceConv) for m in model.modules())
    assert model.stem.in_channels == 3


@pytest.mark.parametrize("arguments", [{}, {"in_channels": 16}])
def test_a_refused_conversion_in_place_changes_nothing(arguments: dict[str, Any]) -> None:
    model = torchvision.models.resnet18()
    names = {name: (type(m), repr(m)) for name, m in model.named_modules()}
    with pytest.raises(ValueError, match="n_fold must be between"):
        convert_to_3d(model, TSMConv, in_place=True, n_fold=1000, **arguments)
    assert names == {name: (type(m), repr(m)) for name, m in model.named_modules()}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (torchvision.models.resnet18, TSMConv),
            TypeError,
            r"an nn.Module, got .*: .* resnet18\(\)",
        ),
        ((EveryLayer, TSMConv), TypeError, r"an nn.Module, got .*EveryLayer.*: .* EveryLayer\(\)"),
        (
            (nn.ReLU(), nn.Conv2d),
            TypeError,
            "operator must be a SliceConv class or one of .*Conv2d",
        ),
        ((nn.ReLU(), 8), TypeError, "operator must be .* got 8"),
        ((nn.ReLU(), TSMConv, 1.0), TypeError, "in_channels must be an integer or None, got 1.0"),
        ((nn.ReLU(), TSMConv, 0), ValueError, "in_channels must be at least 1, got 0"),
    ],
)
def test_arguments_of_other_types_are_named(
    arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        convert_to_3d(*arguments)


def test_one_pattern_may_be_given_as_it_is() -> None:
    one, many = (
        convert_to_3d(torchvision.models.resnet18(), TSMConv, skip=skip).report
        for skip in (r"layer[34]\..*", [r"layer[34]\..*"])
    )
    assert one == many
    assert one.skipped["layer4.1.conv2"] == "told to"


@pytest.mark.parametrize(
    ("skip", "message"),
    [
        (["layer1.*", "layer9.*"], r"there are conv1, layer1.0.conv1, .* got \['layer9.*'\]"),
        ("conv", r"got \['conv'\], which match none"),
        (["("], r"skip must be regular expressions, got '\('"),
    ],
)
def test_patterns_that_match_nothing_are_named(skip: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_to_3d(torchvision.models.resnet18(), TSMConv, skip=skip)


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ValueError, match=r"operator must be one of .*TSMConv.*, got 'Shift'"):
        convert_to_3d(EveryLayer(), "Shift")


def test_kernels_that_cannot_be_had_are_named() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    model = nn.Sequential(nn.Conv2d(3, 8, 3), Own(8, 8, 3))
    with pytest.raises(ValueError, match=r"layer 1 \(Own\): "):
        convert_to_3d(model, "I3DConv", in_place=True)
    assert type(model[1]) is Own
    assert model[0].in_channels == 3


def test_a_network_that_mixes_nothing_says_so() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.GELU())
    with pytest.warns(UserWarning, match="no convolution became TSMConv: slices are not mixed"):
        net = convert_to_3d(model, TSMConv)
    assert net(volume()).shape == (2, 8, DEPTH, 4, 4)
