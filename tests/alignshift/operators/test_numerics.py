"""Number formats, autocast and derivatives of every operator."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.alignshift.operators.operator_cases import THICKNESS, every_operator, make, volume

TOLERANCE = {torch.float64: 1e-5, torch.float16: 0.01, torch.bfloat16: 0.08}


@every_operator
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_dtypes_stay_near_float32(name: str, dtype: torch.dtype) -> None:
    conv, x = make(name), volume().requires_grad_()
    expected = conv(x, THICKNESS)
    other, y = copy.deepcopy(conv).to(dtype), x.detach().to(dtype).requires_grad_()
    out = other(y, THICKNESS)
    assert out.dtype == dtype
    near = {"atol": TOLERANCE[dtype], "rtol": TOLERANCE[dtype]}
    torch.testing.assert_close(out.float(), expected, **near)
    expected.sum().backward()
    out.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    torch.testing.assert_close(y.grad.float(), x.grad, **near)
    for key, parameter in other.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.dtype == dtype, key
        reference = conv.get_parameter(key).grad
        assert reference is not None
        error = (parameter.grad.float() - reference).norm() / reference.norm()
        assert error < TOLERANCE[dtype], key


@every_operator
@pytest.mark.parametrize("thickness_dtype", [torch.float16, torch.float64], ids=str)
def test_thickness_may_be_of_another_float(name: str, thickness_dtype: torch.dtype) -> None:
    conv, x = make(name), volume()
    out = conv(x, THICKNESS.to(thickness_dtype))
    assert torch.equal(out, conv(x, THICKNESS))


@every_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_gives_gradients_in_float32(name: str, dtype: torch.dtype) -> None:
    conv, x = make(name), volume().requires_grad_()
    inputs = (x, *conv.parameters())
    expected = torch.autograd.grad(conv(x, THICKNESS).sum(), inputs)
    with torch.autocast("cpu", dtype):
        out = conv(x, THICKNESS)
    assert out.dtype == dtype
    for actual, reference in zip(
        torch.autograd.grad(out.float().sum(), inputs), expected, strict=True
    ):
        assert actual.dtype == torch.float32
        assert (actual - reference).norm() / reference.norm() < 0.02


@every_operator
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 0}], ids=str)
def test_first_and_second_derivatives(name: str, geometry: dict[str, int]) -> None:
    conv = make(name, 4, 3, 3, **geometry).double()
    parameters = dict(conv.named_parameters())
    x = volume(channels=4, size=3).double().requires_grad_()

    def call(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return functional_call(conv, named, (x, THICKNESS))

    inputs = (x, *parameters.values())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)
