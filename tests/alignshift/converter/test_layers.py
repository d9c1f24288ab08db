"""Which layers can work on slices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from alignshift import SliceConv, TSMConv, convert_to_3d
from alignshift.converter.layers import check_layers, count_layers
from tests.alignshift.converter.networks import EveryLayer, NestedOutputs


class OwnConv3d(nn.Conv3d):
    """A layer for volumes by another name."""


class Wrapper(OwnConv3d):
    """And one more step away."""


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: nn.Conv3d(1, 1, 1), "layer for volumes"),
        (lambda: nn.BatchNorm3d(1), "layer for volumes"),
        (lambda: Wrapper(1, 1, 1), "layer for volumes"),
        (lambda: nn.AdaptiveAvgPool3d(1), "layer for volumes"),
        (lambda: SliceConv(8, 8, 1), "works on slices already"),
        (lambda: torch.jit.script(nn.Conv2d(1, 1, 1)), "compiled module"),
        (lambda: torch.compile(nn.Conv2d(1, 1, 1)), "before compiling"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
def test_a_layer_without_a_counterpart_is_named(
    layer: Callable[[], nn.Module], reason: str
) -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), layer()))
    with pytest.raises(ValueError, match=rf"got layer 1\.1 \(\w+\): .*{reason}"):
        convert_to_3d(model, TSMConv)


def test_a_converted_network_is_not_converted_again() -> None:
    net = convert_to_3d(NestedOutputs(), TSMConv)
    with pytest.raises(ValueError, match=r"got SliceNetwork: it works on slices already"):
        convert_to_3d(net, TSMConv)


def test_layers_of_2d_networks_pass() -> None:
    check_layers(EveryLayer())


def test_leaves_are_counted_but_for_2d_convolutions() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Sequential(nn.ReLU(), nn.Linear(1, 1)))
    assert count_layers(model) == {"ReLU": 2, "Linear": 1}
