"""I3D: inflation, limits, geometry, loading and conversion."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from alignshift.operators import I3DConv, SliceConv, i3d_conv, inflate_kernel, slice_conv2d
from alignshift.operators.swap import swap_operator
from tests.alignshift.operators.operator_cases import make, volume
from tests.alignshift.operators.test_conv3d import StandardizedConv2d


def test_hand_computed_kernels() -> None:
    flat = torch.tensor([[[[3.0, 6.0]]]])
    assert inflate_kernel(flat, 3).tolist() == [[[[[1.0, 2.0]]] * 3]]
    zeros, itself = [[0.0, 0.0]], [[3.0, 6.0]]
    assert inflate_kernel(flat, 3, "center").tolist() == [[[zeros, itself, zeros]]]
    assert inflate_kernel(flat, 2, "center").tolist() == [[[itself, zeros]]]
    for mode in ("mean", "center"):
        assert torch.equal(inflate_kernel(flat, 1, mode), flat[:, :, None])


def per_slice(conv2d: nn.Module, x: Tensor) -> Tensor:
    """A 2D layer on every slice."""
    return torch.stack([conv2d(x[:, :, z]) for z in range(x.shape[2])], dim=2)


GEOMETRIES: list[tuple[int, dict[str, Any]]] = [
    (3, {"padding": 1}),
    (3, {"padding": "same", "dilation": 2}),
    (3, {"padding": 1, "stride": 2, "groups": 4}),
    (7, {"padding": 3, "stride": 2}),
    (2, {"stride": 2}),
    (4, {"stride": 4}),
    ((1, 7), {"padding": (0, 3)}),
    ((3, 5), {"padding": (0, 2), "dilation": (2, 1)}),
]


@pytest.mark.parametrize(("kernel", "geometry"), GEOMETRIES, ids=str)
def test_center_is_the_2d_layer(kernel: int | tuple[int, int], geometry: dict[str, Any]) -> None:
    conv = I3DConv(8, 4, kernel, inflate="center", **geometry)
    conv2d = nn.Conv2d(8, 4, kernel, **geometry)
    conv.load_state_dict(conv2d.state_dict())
    x = volume(size=12)
    torch.testing.assert_close(conv(x), per_slice(conv2d, x))


@pytest.mark.parametrize(("kernel", "geometry"), GEOMETRIES, ids=str)
def test_mean_of_equal_slices_is_the_2d_layer_away_from_the_ends(
    kernel: int | tuple[int, int], geometry: dict[str, Any]
) -> None:
    conv, conv2d = I3DConv(8, 4, kernel, **geometry), nn.Conv2d(8, 4, kernel, **geometry)
    conv.load_state_dict(conv2d.state_dict())
    x = volume(depth=1, size=12).expand(-1, -1, 9, -1, -1)
    out = conv(x)
    assert out.shape[2] == 9
    torch.testing.assert_close(out[:, :, 3:6], per_slice(conv2d, x)[:, :, 3:6])


def test_equals_the_textbook_convolution() -> None:
    x, weight, bias = volume(depth=4), torch.randn(4, 2, 3, 3, 3), torch.randn(4)
    geometry: dict[str, Any] = {"dilation": 2, "groups": 4}
    expected = F.conv3d(x, weight, bias, (1, 2, 2), 2, **geometry)
    out = i3d_conv(x, weight, bias, stride=2, padding=2, **geometry)
    torch.testing.assert_close(out, expected)


def test_even_kernels_look_at_the_next_slice() -> None:
    x = torch.tensor([1.0, 2.0, 4.0]).view(1, 1, 3, 1, 1).repeat(1, 1, 1, 2, 2)
    out = i3d_conv(x, inflate_kernel(torch.full((1, 1, 2, 2), 0.25), 2), stride=2)
    assert out.flatten().tolist() == [1.5, 3.0, 2.0]


@pytest.mark.parametrize("kernel", [(1, 7), (7, 1), (1, 1)])
def test_flat_kernels_stay_flat(kernel: tuple[int, int]) -> None:
    conv, x = I3DConv(8, 4, kernel, padding=(kernel[0] // 2, kernel[1] // 2)), volume()
    assert conv.weight.shape == (4, 8, 1, *kernel)
    expected = slice_conv2d(x, conv.weight[:, :, 0], conv.bias, padding=conv.padding)
    assert torch.equal(conv(x), expected)


@pytest.mark.parametrize("inflate", ["mean", "center"])
def test_begins_as_a_2d_layer_does(inflate: str) -> None:
    torch.manual_seed(0)
    conv = I3DConv(8, 4, 3, inflate=inflate)
    torch.manual_seed(0)
    plain = SliceConv(8, 4, 3)
    assert torch.equal(conv.weight, inflate_kernel(plain.weight, 3, inflate))
    assert torch.equal(conv.bias, plain.bias)


def test_loads_kernels_of_2d_and_its_own_within_a_network() -> None:
    network, network2d = nn.Sequential(I3DConv(8, 4, 3)), nn.Sequential(nn.Conv2d(8, 4, 3))
    state = network2d.state_dict()
    network.load_state_dict(state)
    assert state["0.weight"].ndim == 4
    assert torch.equal(network[0].weight, inflate_kernel(network2d[0].weight, 3))
    other = nn.Sequential(I3DConv(8, 4, 3, inflate="center"))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other[0].weight, network[0].weight)
    other.load_state_dict(state, assign=True)
    assert torch.equal(other[0].weight, inflate_kernel(network2d[0].weight, 3, "center"))


def test_a_kernel_of_another_size_is_still_an_error() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        I3DConv(8, 4, 3).load_state_dict(nn.Conv2d(8, 4, 5).state_dict())


def test_module_equals_function_and_ignores_thickness() -> None:
    conv, x = make("I3DConv", stride=2, inflate="mean"), volume()
    out = conv(x)
    assert torch.equal(out, i3d_conv(x, conv.weight, conv.bias, stride=2, padding=1))
    assert torch.equal(conv(x, torch.tensor([1.0, 5.0])), out)


def test_swapped_layers_are_inflated_once_and_stay_frozen() -> None:
    conv2d = nn.Conv2d(8, 4, 3, padding=1, dtype=torch.float64).requires_grad_(False)
    flat = conv2d.weight
    conv = swap_operator(conv2d, I3DConv, inflate="center")
    assert isinstance(conv.weight, nn.Parameter)
    assert not conv.weight.requires_grad
    assert torch.equal(conv.weight, inflate_kernel(flat, 3, "center"))
    conv.configure(inflate="mean")
    assert torch.equal(conv.weight, inflate_kernel(flat, 3, "center"))


def test_lazy_layers_are_inflated_by_their_first_input() -> None:
    conv, x = swap_operator(nn.LazyConv2d(4, 3), I3DConv, inflate="center"), volume()
    conv(x)
    assert type(conv) is I3DConv
    assert conv.weight.shape == (4, 8, 3, 3, 3)
    assert not conv.weight[:, :, [0, 2]].any()
    conv2d = nn.Conv2d(8, 4, 3)
    conv.load_state_dict(conv2d.state_dict())
    torch.testing.assert_close(conv(x), per_slice(conv2d, x))


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match=r"got StandardizedConv2d, which has its own forward"):
        swap_operator(StandardizedConv2d(8, 4, 3), I3DConv)
    with pytest.raises(ValueError, match="padding_mode must be 'zeros' for I3DConv, got 'reflect"):
        I3DConv(8, 4, 3, padding=1, padding_mode="reflect")
    with pytest.raises(ValueError, match="inflate must be 'mean' or 'center', got 'sum'"):
        I3DConv(8, 4, 3, inflate="sum")


def test_computed_weights_are_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = weight_norm(nn.Conv2d(8, 4, 3))
    for conv2d in (old, parametrizations.weight_norm(nn.Conv2d(8, 4, 3))):
        kind = type(conv2d)
        with pytest.raises(ValueError, match="conv must have its weight as a parameter to become"):
            swap_operator(conv2d, I3DConv)
        assert type(conv2d) is kind


def test_wrong_arguments_are_named() -> None:
    flat = torch.ones(4, 8, 3, 3)
    with pytest.raises(ValueError, match="mode must be 'mean' or 'center', got 'sum'"):
        inflate_kernel(flat, 3, "sum")
    with pytest.raises(ValueError, match="depth must be >= 1 slices, got 0"):
        inflate_kernel(flat, 0)
    with pytest.raises(ValueError, match=r"C / groups, kh, kw\), got \(4, 8, 3\)"):
        inflate_kernel(flat[..., 0], 3)
    with pytest.raises(ValueError, match=r"C / groups, kd, kh, kw\), got \(4, 8, 3, 3\)"):
        i3d_conv(volume(), flat)
    with pytest.raises(ValueError, match=r"x must be of shape \(N, C, D, H, W\), got \(4, 4\)"):
        i3d_conv(torch.ones(4, 4), flat[:, :, None])
