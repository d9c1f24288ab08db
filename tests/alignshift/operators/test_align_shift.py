"""AlignShift: hand-computed values, limits and errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alignshift.operators import AlignShiftConv, SliceConv, align_shift, temporal_shift
from tests.alignshift.operators.operator_cases import column, volume

NAN = float("nan")


def test_hand_computed_values() -> None:
    x = column([1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    # keep = 1 - 2 / 5 = 0.6
    out = align_shift(x, torch.tensor([5.0]), n_fold=4)
    expected = column([1.4, 2.8, 4.0], [1.0, 1.6, 3.2], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    torch.testing.assert_close(out, expected)
    out = align_shift(x, torch.tensor([5.0]), n_fold=4, shift_padding_zero=True)
    expected = column([1.4, 2.8, 2.4], [0.6, 1.6, 3.2], [1.0, 2.0, 4.0], [1.0, 2.0, 4.0])
    torch.testing.assert_close(out, expected)


def test_each_sample_has_its_own_thickness() -> None:
    x, mm = volume(4), torch.tensor([1.0, 2.5, 5.0, NAN])
    out = align_shift(x, mm)
    for i in range(4):
        torch.testing.assert_close(out[i : i + 1], align_shift(x[i : i + 1], mm[i : i + 1]))
    assert torch.equal(out, align_shift(x, mm[:, None]))


@pytest.mark.parametrize("mm", [0.5, 2.0])
def test_thin_slices_give_tsm(mm: float) -> None:
    x, thickness = volume(), torch.full((2,), mm)
    tsm = temporal_shift(x)
    assert torch.equal(align_shift(x, thickness, shift_padding_zero=True), tsm)
    # Without padding, the edge slice of a shifted fold stays where it was.
    tsm[:, :1, -1], tsm[:, 1:2, 0] = x[:, :1, -1], x[:, 1:2, 0]
    assert torch.equal(align_shift(x, thickness), tsm)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("mm", [float("inf"), NAN, 0.0, -1.0, -float("inf")])
def test_thick_or_unknown_slices_give_the_2d_network(mm: float, padding: bool) -> None:
    x, thickness = volume(), torch.full((2,), mm)
    assert torch.equal(align_shift(x, thickness, shift_padding_zero=padding), x)
    conv, plain = AlignShiftConv(8, 4, 3, shift_padding_zero=padding), SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict())
    assert torch.equal(conv(x, thickness), plain(x))


def test_one_slice() -> None:
    x, thickness = volume(depth=1), torch.tensor([2.0, 8.0])
    assert torch.equal(align_shift(x, thickness), x)
    out = align_shift(x, thickness, shift_padding_zero=True)
    assert torch.equal(out[0, :2], torch.zeros_like(out[0, :2]))
    torch.testing.assert_close(out[1, :2], 0.75 * x[1, :2])
    assert torch.equal(out[:, 2:], x[:, 2:])


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_gradients(padding: bool, depth: int) -> None:
    x = volume(channels=5, depth=depth, size=2).double().requires_grad_()
    thickness = torch.tensor([1.0, 3.0])

    def shift(x: Tensor) -> Tensor:
        return align_shift(x, thickness, n_fold=2, shift_padding_zero=padding)

    assert torch.autograd.gradcheck(shift, (x,))
    assert torch.autograd.gradgradcheck(shift, (x,))


@given(
    mm=st.floats(0.1, 100),
    reference=st.floats(0.5, 10),
    depth=st.integers(1, 5),
    n_fold=st.integers(2, 8),
    padding=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_is_the_formula(
    mm: float, reference: float, depth: int, n_fold: int, padding: bool
) -> None:
    x = volume(1, depth=depth, size=2).double()
    thickness = torch.tensor([mm], dtype=torch.float64)
    out = align_shift(x, thickness, n_fold, reference, padding)
    keep = 1 - min(reference / mm, 1)
    fold = 8 // n_fold
    for z in range(depth):
        for first, neighbor in ((0, z + 1), (fold, z - 1)):
            channels = slice(first, first + fold)
            inside = 0 <= neighbor < depth
            other = x[:, channels, neighbor if inside else z]
            blend = keep * x[:, channels, z] + (1 - keep) * other * (inside or not padding)
            torch.testing.assert_close(out[:, channels, z], blend)
    assert torch.equal(out[:, 2 * fold :], x[:, 2 * fold :])


@given(mm=st.floats(0.1, 20), depth=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_uniform_stack_is_left_alone(mm: float, depth: int) -> None:
    x = volume(depth=1).expand(-1, -1, depth, -1, -1)
    torch.testing.assert_close(align_shift(x, torch.full((2,), mm)), x)


@pytest.mark.parametrize("padding", [False, True])
def test_module_equals_function(padding: bool) -> None:
    conv = AlignShiftConv(8, 4, 3, n_fold=4, ref_thickness=3.0, shift_padding_zero=padding)
    plain = SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict())
    x, thickness = volume(), torch.tensor([2.5, 7.0])
    torch.testing.assert_close(
        conv(x, thickness), plain(align_shift(x, thickness, 4, 3.0, padding))
    )


def test_switched_off_it_needs_no_thickness() -> None:
    conv, plain = AlignShiftConv(8, 4, 3, alignshift=False), SliceConv(8, 4, 3)
    plain.load_state_dict(conv.state_dict())
    assert torch.equal(conv(volume()), plain(volume()))


def test_half_precision_thickness() -> None:
    x = volume()
    expected = align_shift(x, torch.tensor([1.0, 5.0]))
    assert torch.equal(align_shift(x, torch.tensor([1.0, 5.0]).half()), expected)


def test_integer_thickness_is_named() -> None:
    with pytest.raises(ValueError, match=r"thickness must be floating point \(mm\), got torch.int"):
        align_shift(volume(), torch.tensor([1, 5]))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2), (1, 2)])
def test_wrong_thickness_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"thickness must be of shape \(N,\) or \(N, 1\) with N = 2"
    ):
        align_shift(volume(), torch.ones(shape))


def test_missing_thickness_is_named() -> None:
    with pytest.raises(ValueError, match=r"thickness must be the slice thickness .* got None"):
        AlignShiftConv(8, 4, 3)(volume())


@pytest.mark.parametrize("n_fold", [-1, 0, 1, 9])
def test_wrong_n_fold_is_named(n_fold: int) -> None:
    message = rf"n_fold must be between 2 and the number of channels \(8\), got {n_fold}"
    with pytest.raises(ValueError, match=message):
        AlignShiftConv(8, 4, 3, n_fold=n_fold)
    with pytest.raises(ValueError, match=message):
        align_shift(volume(), torch.ones(2), n_fold)


@pytest.mark.parametrize("reference", [0.0, -2.0, NAN, float("inf")])
def test_wrong_ref_thickness_is_named(reference: float) -> None:
    message = f"ref_thickness must be > 0 mm and finite, got {reference}"
    with pytest.raises(ValueError, match=message):
        AlignShiftConv(8, 4, 3, ref_thickness=reference)
    with pytest.raises(ValueError, match=message):
        align_shift(volume(), torch.ones(2), ref_thickness=reference)
