"""Every kind of output that holds tensors."""

from __future__ import annotations

import dataclasses
import types
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from alignshift import TSMConv, convert_to_3d
from alignshift.converter.outputs import map_tensors
from tests.alignshift.converter.networks import DEPTH, volume

ONE = torch.ones(1)


class Pair(NamedTuple):
    """A named tuple."""

    first: Tensor
    second: Any


@dataclasses.dataclass(frozen=True)
class Maps:
    """A dataclass, as libraries of transformers return."""

    maps: Tensor
    name: str
    derived: Tensor = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", self.maps + 1)


class Named(OrderedDict):
    """A mapping that is made in a way of its own."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name


class Slotted:
    """An object that the converter knows nothing of."""

    __slots__ = ("inside", "unset")

    def __init__(self, inside: object) -> None:
        self.inside = inside


def double(out: Any) -> Any:
    """Twice every tensor."""
    return map_tensors(out, lambda tensor: 2 * tensor)


def test_sequences() -> None:
    out = [ONE, (ONE, None, 3, "a"), Pair(ONE, [ONE]), torch.tensor([[1.0, 2.0]]).max(1)]
    got = double(out)
    assert got[:2] == [2, (2, None, 3, "a")]
    assert type(got[2]) is Pair
    assert got[2] == (2, [2])
    assert type(got[3]) is type(out[3])
    assert got[3].values == 4
    assert ONE == 1


def test_mappings() -> None:
    named = Named("x")
    named["a"] = ONE
    kinds = [{"a": ONE}, OrderedDict(a=ONE), defaultdict(list, a=ONE), named]
    for out in (*kinds, types.MappingProxyType({"a": ONE})):
        got = double(out)
        assert type(got) is type(out)
        assert dict(got) == {"a": 2}
        assert dict(out) == {"a": 1}
    assert double(kinds[2])["new"] == []
    assert double(named).name == "x"


def test_dataclasses() -> None:
    got = double(Maps(ONE, "x"))
    assert type(got) is Maps
    assert (got.maps, got.name, got.derived) == (2, "x", 3)
    assert double(Maps) is Maps


def test_objects_without_tensors_pass() -> None:
    cyclic = Slotted(None)
    cyclic.inside = [cyclic, {1, 2}, {"a": "b"}]
    for out in (cyclic, torch.float32, object()):
        assert double(out) is out


@pytest.mark.parametrize(
    "out",
    [
        Slotted([{"a": ONE}]),
        types.SimpleNamespace(a=Slotted((ONE,))),
        {ONE},
        torch.distributions.Normal(ONE, ONE),
    ],
    ids=lambda out: type(out).__name__,
)
def test_tensors_in_anything_else_are_refused(out: object) -> None:
    message = f"got a {type(out).__name__}, which holds tensors too"
    with pytest.raises(TypeError, match=message):
        double([out])


class Returning(nn.Module):
    """Returns its maps in a dataclass and in an ordered dict; takes a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, images: Tensor, scale: Tensor | float = 1.0) -> OrderedDict[str, Any]:
        """Maps times a scale."""
        x = self.mix(self.conv(images)) * scale
        return OrderedDict(plain=x, inside=Maps(x, "x"))


def test_a_network_unfolds_them_all() -> None:
    out = convert_to_3d(Returning(), TSMConv)(volume())
    assert out["plain"].shape == (2, 8, DEPTH, 14, 14)
    assert torch.equal(out["inside"].maps, out["plain"])


def test_further_arguments_reach_the_2d_network_by_place_and_name() -> None:
    net = convert_to_3d(Returning(), TSMConv)
    once = net(volume())["plain"]
    torch.testing.assert_close(net(volume(), None, 2.0)["plain"], 2 * once)
    torch.testing.assert_close(net(volume(), scale=2.0)["plain"], 2 * once)
    # One number for each slice, those of a stack in turn.
    scales = torch.arange(2.0 * DEPTH)
    out = net(volume(), scale=scales.view(-1, 1, 1, 1))["plain"]
    torch.testing.assert_close(out, once * scales.view(2, 1, DEPTH, 1, 1))


def test_compiled_they_are_the_same() -> None:
    net = convert_to_3d(Returning(), TSMConv)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    out = compiled(volume())
    assert type(out) is OrderedDict
    torch.testing.assert_close(out["plain"], net(volume())["plain"])
