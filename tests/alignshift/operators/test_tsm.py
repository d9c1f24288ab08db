"""Temporal shift: hand-computed values, the module, errors."""

from __future__ import annotations

import pytest
import torch

from alignshift.operators import SliceConv, TSMConv, temporal_shift
from tests.alignshift.operators.operator_cases import column, volume


def test_hand_computed_values() -> None:
    x = column([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    expected = column([2.0, 4.0, 0.0], [0.0, 1.0, 2.0], [1.0, 2.0, 4.0])
    assert torch.equal(temporal_shift(x, n_fold=3), expected)


def test_one_slice_loses_the_shifted_channels() -> None:
    x = volume(depth=1)
    out = temporal_shift(x, n_fold=4)
    assert torch.equal(out[:, :4], torch.zeros_like(out[:, :4]))
    assert torch.equal(out[:, 4:], x[:, 4:])


def test_gradients() -> None:
    x = volume(channels=4, size=2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: temporal_shift(x, 2), (x,))
    assert torch.autograd.gradgradcheck(lambda x: temporal_shift(x, 2), (x,))


@pytest.mark.parametrize("tsm", [True, False])
def test_module_equals_function_and_ignores_thickness(tsm: bool) -> None:
    conv, plain = TSMConv(8, 4, 3, n_fold=4, tsm=tsm), SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict())
    x = volume()
    out = conv(x)
    torch.testing.assert_close(out, plain(temporal_shift(x, 4) if tsm else x))
    assert torch.equal(conv(x, torch.tensor([1.0, 5.0])), out)


@pytest.mark.parametrize("n_fold", [1, 9])
def test_wrong_n_fold_is_named(n_fold: int) -> None:
    with pytest.raises(ValueError, match=f"n_fold must be between 2 and .* got {n_fold}"):
        TSMConv(8, 4, 3, n_fold=n_fold)
    with pytest.raises(ValueError, match=f"n_fold must be between 2 and .* got {n_fold}"):
        temporal_shift(volume(), n_fold)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(4, 4\)"):
        temporal_shift(torch.ones(4, 4))
