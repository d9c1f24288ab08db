"""Slice-wise convolution and what every operator has in common."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alignshift.operators import (
    OPERATORS,
    SliceConv,
    fold_slices,
    get_operator,
    slice_conv2d,
    unfold_slices,
)

DEPTH = 3
OPERATOR_KWARGS: dict[str, dict[str, Any]] = {
    "SliceConv": {},
    "AlignShiftConv": {"n_fold": 4},
    "TSMConv": {"n_fold": 4},
    "A3DConv": {"dimension": DEPTH},
}
THICKNESS = torch.tensor([1.0, 5.0])
every_operator = pytest.mark.parametrize("name", list(OPERATOR_KWARGS))


def make(name: str, *args: Any, **kwargs: Any) -> SliceConv:
    """An operator with 8 channels in, 4 out and a 3x3 kernel unless told otherwise."""
    torch.manual_seed(0)
    settings = {"padding": 1, **OPERATOR_KWARGS[name], **kwargs}
    return get_operator(name)(*(args or (8, 4, 3)), **settings)


def volume(batch: int = 2, channels: int = 8, depth: int = DEPTH, size: int = 6) -> Tensor:
    """Seeded noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, depth, size, size, generator=generator)


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


@every_operator
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_shapes(name: str, batch: int) -> None:
    out = make(name, stride=2)(volume(batch), THICKNESS[:batch])
    assert out.shape == (batch, 4, DEPTH, 3, 3)


@every_operator
def test_channels_last_is_kept_and_equals_contiguous(name: str) -> None:
    conv = make(name)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        x = volume().contiguous(memory_format=memory_format).requires_grad_()
        out = conv(x, THICKNESS)
        assert out.is_contiguous(memory_format=torch.channels_last_3d)
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, conv.weight))))
    for contiguous, channels_last in zip(*results, strict=True):
        torch.testing.assert_close(contiguous, channels_last)


@every_operator
def test_mixing_keeps_channels_last(name: str) -> None:
    x = volume().to(memory_format=torch.channels_last_3d)
    mixed = make(name).mix_slices(x, THICKNESS)
    assert mixed.is_contiguous(memory_format=torch.channels_last_3d)


@every_operator
def test_double_gradients(name: str) -> None:
    conv = make(name, 4, 2, 3).double()
    x = volume(channels=4, size=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, THICKNESS), (x,))
    assert torch.autograd.gradgradcheck(lambda x: conv(x, THICKNESS), (x,))


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
    assert all(map(torch.equal, *results))


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


@every_operator
def test_bfloat16_stays_near_float32(name: str) -> None:
    conv, x = make(name), volume()
    expected = conv(x, THICKNESS)
    low = copy.deepcopy(conv).bfloat16()(x.bfloat16(), THICKNESS)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), expected, atol=0.05, rtol=0.05)


@every_operator
def test_autocast_gives_gradients_in_float32(name: str) -> None:
    conv, x = make(name), volume().requires_grad_()
    expected = torch.autograd.grad(conv(x, THICKNESS).sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x, THICKNESS)
    assert out.dtype == torch.bfloat16
    gradient = torch.autograd.grad(out.float().sum(), x)[0]
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, atol=0.02, rtol=0.05)


@every_operator
def test_compiles_as_one_graph(name: str) -> None:
    conv = make(name)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    x = volume().requires_grad_()
    expected, out = conv(x, THICKNESS), compiled(x, THICKNESS)
    torch.testing.assert_close(out, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, expected)]
    torch.testing.assert_close(*gradients)


@every_operator
def test_deepcopy_and_pickle(name: str) -> None:
    conv, x = make(name), volume()
    expected = conv(x, THICKNESS)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert torch.equal(other(x, THICKNESS), expected)


@every_operator
def test_wrong_input_is_named(name: str) -> None:
    conv = make(name)
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(2, 8, 6, 6"):
        conv(volume()[:, :, 0], THICKNESS)
    with pytest.raises(ValueError, match=r"x must have 8 channels .* got shape \(2, 7, 3, 6, 6\)"):
        conv(volume(channels=7), THICKNESS)


@every_operator
def test_representation_names_the_settings(name: str) -> None:
    text = repr(make(name))
    assert text.startswith(f"{name}(8, 4, kernel_size=(3, 3)")
    assert all(f"{key}={value}" in text for key, value in OPERATOR_KWARGS[name].items())


def test_registry_knows_every_operator() -> None:
    assert set(OPERATORS) == set(OPERATOR_KWARGS)
    assert all(get_operator(name) is operator for name, operator in OPERATORS.items())


def test_unknown_operator_lists_the_known_ones() -> None:
    known = "A3DConv, AlignShiftConv, SliceConv, TSMConv"
    with pytest.raises(ValueError, match=f"operator must be one of {known}, got 'ShiftConv'"):
        get_operator("ShiftConv")
