"""A3D: the sum it stands for, the limit of the identity, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignshift.operators import A3DConv, SliceConv, adaptive_align
from tests.alignshift.operators.operator_cases import column, volume


def test_hand_computed_values() -> None:
    x = column([1.0, 2.0], [3.0, 4.0])
    weights = torch.zeros(2, 2, 2)
    weights[0, 1, 0] = 10.0  # channel 0: slice 0 goes into slice 1
    weights[1, 0, 1], weights[1, 1, 1] = 1.0, 0.5  # channel 1: slice 1 goes into both
    assert torch.equal(adaptive_align(x, weights), column([0.0, 10.0], [4.0, 2.0]))


@given(depth=st.integers(1, 7), channels=st.integers(1, 9), batch=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_is_the_sum_over_slices(depth: int, channels: int, batch: int) -> None:
    x = volume(batch, channels, depth, 3)
    weights = torch.randn(depth, depth, channels, generator=torch.Generator().manual_seed(2))
    expected = torch.einsum("ncdhw,dkc->nckhw", x, weights)
    torch.testing.assert_close(adaptive_align(x, weights), expected)


def test_gradients() -> None:
    x = volume(channels=2, size=2).double().requires_grad_()
    weights = torch.randn(3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(adaptive_align, (x, weights))
    assert torch.autograd.gradgradcheck(adaptive_align, (x, weights))


def test_identity_gives_the_2d_network() -> None:
    conv, plain = A3DConv(8, 4, 3), SliceConv(8, 4, 3)
    assert conv.adaptive_align_weights is not None
    with torch.no_grad():
        conv.adaptive_align_weights.copy_(torch.eye(3)[:, :, None].expand(3, 3, 8))
    plain.load_state_dict(conv.state_dict(), strict=False)
    assert torch.equal(conv(volume()), plain(volume()))


def test_starts_near_the_identity() -> None:
    weights = A3DConv(64, 4, 3, dimension=5).adaptive_align_weights
    assert weights is not None
    assert weights.shape == (5, 5, 64)
    noise = weights.detach() - torch.eye(5)[:, :, None]
    assert 0.09 < noise.abs().max() <= 0.1 + 1e-6
    assert noise.mean().abs() < 0.01


def test_module_equals_function_and_ignores_thickness() -> None:
    conv, plain = A3DConv(8, 4, 3), SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict(), strict=False)
    assert conv.adaptive_align_weights is not None
    x = volume()
    out = conv(x)
    assert torch.equal(out, plain(adaptive_align(x, conv.adaptive_align_weights)))
    assert torch.equal(conv(x, torch.tensor([1.0, 5.0])), out)


def test_switched_off_it_has_no_weights_and_takes_any_depth() -> None:
    conv, plain = A3DConv(8, 4, 3, enable_shift=False), SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict())
    x = volume(depth=5)
    assert torch.equal(conv(x), plain(x))


@pytest.mark.parametrize("depth", [1, 5])
def test_another_depth_is_named(depth: int) -> None:
    message = rf"A3DConv was built for dimension=3 slices, got a stack of {depth} \(x of shape"
    with pytest.raises(ValueError, match=message):
        A3DConv(8, 4, 3)(volume(depth=depth))


def test_wrong_weights_are_named() -> None:
    message = r"weights must be of shape \(D, D, C\) = \(3, 3, 8\) .* got \(3, 3, 4\)"
    with pytest.raises(ValueError, match=message):
        adaptive_align(volume(), torch.ones(3, 3, 4))


def test_wrong_dimension_is_named() -> None:
    with pytest.raises(ValueError, match="dimension must be >= 1 slices, got 0"):
        A3DConv(8, 4, 3, dimension=0)
    with pytest.raises(TypeError, match=r"dimension must be an integer .* got 3\.0"):
        A3DConv(8, 4, 3, dimension=3.0)
