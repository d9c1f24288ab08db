"""Slice-wise convolution, folding, and what `SliceConv` does for the operators on top of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignshift.operators import (
    SliceConv,
    fold_slices,
    get_operator,
    slice_conv2d,
    unfold_slices,
)
from alignshift.operators.folding import fold_result
from tests.alignshift.operators.operator_cases import (
    DEPTH,
    THICKNESS,
    every_operator,
    make,
    volume,
)


@every_operator
def test_fewest_channels_that_can_be_mixed(name: str) -> None:
    operator, folds = get_operator(name), name in ("AlignShiftConv", "TSMConv")
    assert operator.min_channels({}) == (8 if folds else 1)
    if folds:
        assert operator.min_channels({"n_fold": 4}) == 4


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_a_result_is_folded_without_being_a_view(
    channels: int, memory_format: torch.memory_format
) -> None:
    x = volume(channels=channels).contiguous(memory_format=memory_format).requires_grad_()
    with torch.no_grad():
        folded = fold_result(x.clone())
    assert not folded._is_view()
    assert torch.equal(folded, fold_slices(x))
    last = x.detach().contiguous(memory_format=torch.channels_last_3d)
    assert fold_result(last).data_ptr() == last.data_ptr()
    torch.autograd.gradcheck(lambda v: fold_result(2 * v), x.detach().double().requires_grad_())


@pytest.mark.parametrize("channels", [1, 4])
def test_folding_channels_last_volumes_is_a_view_and_comes_undone(channels: int) -> None:
    x = volume(channels=channels).to(memory_format=torch.channels_last_3d)
    folded = fold_slices(x)
    assert folded.shape == (6, channels, 6, 6)
    assert folded.data_ptr() == x.data_ptr()
    assert folded.stride(1) == 1
    assert torch.equal(folded[4], x[1, :, 1])
    unfolded = unfold_slices(folded, DEPTH)
    assert unfolded.data_ptr() == x.data_ptr()
    assert torch.equal(unfolded, x)


@pytest.mark.parametrize(
    ("settings", "groups"),
    [({}, 1), ({"stride": 2, "padding": 1}, 1), ({"dilation": (2, 1), "padding": "same"}, 2)],
)
def test_slice_conv2d_is_a_3d_convolution_with_a_flat_kernel(
    settings: dict[str, Any], groups: int
) -> None:
    x = volume()
    weight, bias = torch.randn(4, 8 // groups, 3, 3), torch.randn(4)
    out = slice_conv2d(x, weight, bias, groups=groups, **settings)
    per_slice = [F.conv2d(x[:, :, z], weight, bias, groups=groups, **settings) for z in range(3)]
    torch.testing.assert_close(out, torch.stack(per_slice, dim=2))


def test_slice_conv_is_a_2d_convolution_with_its_state_dict() -> None:
    conv, conv2d = SliceConv(8, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
    conv.load_state_dict(conv2d.state_dict())
    x = volume(depth=1)
    torch.testing.assert_close(conv(x).squeeze(2), conv2d(x.squeeze(2)))


@pytest.mark.parametrize("name", ["SliceConv", "AlignShiftConv", "TSMConv", "A3DConv"])
@pytest.mark.parametrize("padding_mode", ["reflect", "replicate", "circular"])
def test_operators_that_mix_slices_pad_in_plane_in_any_way(name: str, padding_mode: str) -> None:
    conv, x = make(name, padding_mode=padding_mode), volume()
    conv2d = nn.Conv2d(8, 4, 3, padding=1, padding_mode=padding_mode)
    conv2d.load_state_dict({"weight": conv.weight, "bias": conv.bias})
    mixed = conv.mix_slices(x, THICKNESS)
    expected = torch.stack([conv2d(mixed[:, :, z]) for z in range(DEPTH)], dim=2)
    torch.testing.assert_close(conv(x, THICKNESS), expected)


@pytest.mark.parametrize("name", ["AlignShiftConv", "TSMConv", "A3DConv"])
def test_mixing_keeps_channels_last(name: str) -> None:
    x = volume().to(memory_format=torch.channels_last_3d)
    mixed = make(name).mix_slices(x, THICKNESS)
    assert mixed.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("name", ["AlignShiftConv", "TSMConv"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_inplace_changes_neither_input_nor_gradients(
    name: str, memory_format: torch.memory_format
) -> None:
    results = []
    for inplace in (False, True):
        conv = make(name, inplace=inplace)
        x = volume().contiguous(memory_format=memory_format).requires_grad_()
        before = x.detach().clone()
        # The ReLU keeps its output for backward: shifting that in place falsifies its gradient.
        out = conv(F.relu(x), THICKNESS)
        gradients = torch.autograd.grad(out.square().sum(), (x, *conv.parameters()))
        conv(x, THICKNESS)
        assert torch.equal(x, before)
        results.append((out, *gradients))
    (out, grad_x, *others), (out_inplace, grad_x_inplace, *others_inplace) = results
    assert torch.equal(out, out_inplace)
    assert all(map(torch.equal, others, others_inplace))
    torch.testing.assert_close(grad_x, grad_x_inplace)  # edges are rounded once less in place


def saved_numbers(conv: SliceConv, x: Tensor) -> int:
    """How many numbers that are not in ``x`` itself autograd keeps for backward."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = conv(x, THICKNESS)
    storages.pop(x.untyped_storage().data_ptr(), None)
    assert out.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("name", ["AlignShiftConv", "TSMConv"])
def test_inplace_saves_the_shifted_copy(name: str) -> None:
    x = volume().to(memory_format=torch.channels_last_3d).requires_grad_()
    assert saved_numbers(make(name, inplace=False), x) > x.numel()
    assert saved_numbers(make(name, inplace=True), x) < x.numel()
