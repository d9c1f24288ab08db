"""The functions of the operators in one place."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest
import torch

from alignshift import functional, operators
from tests.alignshift.operators.operator_cases import THICKNESS, volume

KERNEL = torch.ones(4, 8, 3, 3)
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "slice_conv2d": (KERNEL, None, 2, 1),
    "align_shift": (THICKNESS,),
    "temporal_shift": (),
    "adaptive_align": (torch.ones(3, 3, 8),),
    "acs_conv": (KERNEL, None, 2, 1),
    "i3d_conv": (functional.inflate_kernel(KERNEL, 3), None, 2, 1),
}


def test_functions_are_those_of_the_operators() -> None:
    assert set(functional.__all__) == {*ARGUMENTS, "inflate_kernel"}
    for name in functional.__all__:
        function = getattr(functional, name)
        assert inspect.isfunction(function)
        assert function is getattr(operators, name)
        assert f"`{name}`" in (functional.__doc__ or "")


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_functions_take_volumes_and_leave_them_alone(name: str) -> None:
    x = volume()
    out = getattr(functional, name)(x, *ARGUMENTS[name])
    strided = name in ("slice_conv2d", "acs_conv", "i3d_conv")
    assert out.shape == ((2, 4, 3, 3, 3) if strided else x.shape)
    assert out.data_ptr() != x.data_ptr()
    assert torch.equal(x, volume())


def test_convolutions_share_their_arguments() -> None:
    signatures = [
        [(p.name, p.default) for p in inspect.signature(function).parameters.values()]
        for function in (functional.slice_conv2d, functional.acs_conv, functional.i3d_conv)
    ]
    assert signatures[0] == signatures[1] == signatures[2]


def test_example() -> None:
    assert doctest.testmod(functional, extraglobs={"torch": torch}).failed == 0
