"""Mixing again in backward: the same numbers for less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alignshift.operators import SliceConv
from tests.alignshift.operators.operator_cases import THICKNESS, make, volume

GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": (0, 1)},
    {"dilation": 2, "groups": 2},
    {"bias": False},
    # Mixed once: how their backward pads is not known.
    {"padding": "same"},
    {"padding_mode": "reflect"},
]


def gradients(conv: SliceConv, x: Tensor) -> tuple[Tensor, ...]:
    """Output, and gradients by input and parameters of its square."""
    out = conv(x, THICKNESS[: len(x)])
    return out, *torch.autograd.grad(out.float().square().sum(), (x, *conv.parameters()))


@pytest.mark.parametrize("name", ["AlignShiftConv", "TSMConv"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_are_those_of_mixing_once(name: str, geometry: dict[str, Any]) -> None:
    x = volume().requires_grad_()
    once, again = (gradients(make(name, inplace=i, **geometry), x) for i in (False, True))
    for expected, got in zip(once, again, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype: torch.dtype) -> None:
    x = volume().requires_grad_()
    results = []
    for inplace in (False, True):
        with torch.autocast("cpu", dtype):
            results.append(gradients(make("AlignShiftConv", inplace=inplace), x))
    for expected, got in zip(*results, strict=True):
        assert got.dtype == expected.dtype
        assert (got - expected).norm() < 0.02 * expected.norm()


def test_only_what_is_needed_gets_a_gradient() -> None:
    conv, x = make("AlignShiftConv"), volume()
    conv.bias.requires_grad_(False)
    conv(x, THICKNESS).sum().backward()
    assert conv.weight.grad is not None
    assert conv.bias.grad is None
    conv.weight.requires_grad_(False)
    (gradient,) = torch.autograd.grad(conv(x.requires_grad_(), THICKNESS).sum(), x)
    assert gradient.shape == x.shape


def test_empty_batches() -> None:
    conv, x = make("TSMConv"), volume(0).requires_grad_()
    out, grad_x, grad_weight, _ = gradients(conv, x)
    assert out.shape[0] == grad_x.shape[0] == 0
    assert not grad_weight.any()


def test_the_result_may_be_changed_in_place() -> None:
    x = volume().requires_grad_()
    gradients = []
    for inplace in (False, True):
        conv = make("AlignShiftConv", inplace=inplace)
        out = torch.relu_(conv(x, THICKNESS))
        gradients.append(torch.autograd.grad(out.square().sum(), x)[0])
    torch.testing.assert_close(*gradients)
