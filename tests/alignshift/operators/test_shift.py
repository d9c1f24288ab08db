"""The shift under AlignShift and TSM."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alignshift.operators.shift import FEW_SLICES, FoldShift, check_n_fold, shift_folds
from tests.alignshift.operators.operator_cases import volume


def share(*values: float) -> Tensor:
    """Share to move of each sample, (N, 1, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1, 1)


any_shift = given(
    first=st.floats(0, 1),
    second=st.floats(0, 1),
    depth=st.integers(1, FEW_SLICES + 2),
    fold=st.integers(1, 4),
    padding=st.booleans(),
)


@any_shift
@settings(max_examples=60, deadline=None)
def test_backward_is_the_transpose(
    first: float, second: float, depth: int, fold: int, padding: bool
) -> None:
    """<shift(x), y> = <x, backward(y)> for a linear map."""
    x = volume(depth=depth, size=2).double().requires_grad_()
    y = volume(depth=depth, size=2).double().flip(0, 1)
    out = shift_folds(x, share(first, second), fold, padding)
    (transposed,) = torch.autograd.grad(out, x, y)
    torch.testing.assert_close((out * y).sum(), (x * transposed).sum())


@any_shift
@settings(max_examples=60, deadline=None)
def test_in_place_is_the_same_forward_and_back(
    first: float, second: float, depth: int, fold: int, padding: bool
) -> None:
    x = volume(depth=depth, size=2).double().requires_grad_()
    shift = FoldShift(share(first, second), fold, padding)
    out = shift_folds(x, *shift)
    (grad,) = torch.autograd.grad(out, x, out)
    with torch.no_grad():
        for change, given_, wanted in ((shift.apply_, x, out), (shift.undo_, out, grad)):
            torch.testing.assert_close(change(given_.clone()), wanted)


def test_incoming_gradient_and_input_are_not_changed() -> None:
    x, y = volume().requires_grad_(), volume().flip(0)
    before = x.detach().clone(), y.clone()
    shift_folds(x, share(1.0, 0.3).float(), 2, False).backward(y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_n_fold_must_be_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"n_fold must be an integer, got 8\.0"):
        check_n_fold(8.0, channels=8)


@pytest.mark.parametrize("n_fold", [2, 8])
def test_n_fold_at_its_limits(n_fold: int) -> None:
    check_n_fold(n_fold, channels=8)
