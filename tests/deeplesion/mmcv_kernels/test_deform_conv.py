from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import (
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)
from torch import Tensor

# Another number in every place, so that no two can be mistaken for each other.
GEOMETRIES = [
    {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1, "deform": 1},
    {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2, "deform": 1},
    {"stride": (1, 2), "padding": (0, 2), "dilation": (2, 1), "groups": 1, "deform": 2},
]
Case = tuple[Tensor, Tensor, Tensor, tuple, tuple]


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def case(geometry: dict[str, Any], kernel: tuple[int, int] = (3, 2)) -> Case:
    """Input, weight, output of the undisplaced convolution, and the arguments of either form."""
    stride, padding, dilation, groups, deform = geometry.values()
    x, weight = random(2, 4, 7, 8), random(6, 4 // groups, *kernel, seed=1)
    plain = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    return x, weight, plain, (stride, padding, dilation, groups, deform), plain.shape[2:]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_without_displacement_equals_conv2d(device: str, geometry: dict[str, Any]) -> None:
    x, weight, plain, arguments, size = case(geometry)
    x, weight, plain = x.to(device), weight.to(device), plain.to(device)
    samples = geometry["deform"] * 3 * 2
    offset = x.new_zeros(2, 2 * samples, *size)
    torch.testing.assert_close(deform_conv2d(x, offset, weight, *arguments), plain)
    half = x.new_full((2, samples, *size), 0.5)
    out = modulated_deform_conv2d(x, offset, half, weight, None, *arguments)
    torch.testing.assert_close(out, 0.5 * plain)
    bias = torch.arange(6, dtype=x.dtype, device=device)
    out = modulated_deform_conv2d(x, offset, half, weight, bias, *arguments)
    torch.testing.assert_close(out, 0.5 * plain + bias[:, None, None])


def test_whole_pixel_displacement_reads_the_neighbor() -> None:
    x, weight = random(1, 2, 6, 6), random(3, 2, 1, 1, seed=1)
    offset = torch.zeros(1, 2, 6, 6, dtype=torch.float64)
    offset[:, 0] = 1  # one pixel down
    offset[:, 1] = -2  # two pixels to the left
    moved = F.pad(x, (2, 0, 0, 1))[:, :, 1:, :6]
    torch.testing.assert_close(deform_conv2d(x, offset, weight), F.conv2d(moved, weight))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradcheck(geometry: dict[str, Any]) -> None:
    x, weight, _, arguments, size = case(geometry)
    samples = geometry["deform"] * 3 * 2
    offset, mask = 0.4 * random(2, 2 * samples, *size, seed=2), random(2, samples, *size, seed=3)
    bias = random(6, seed=4)
    for tensor in (x, offset, weight, mask, bias):
        tensor.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, o, w: deform_conv2d(x, o, w, *arguments), (x, offset, weight), fast_mode=True
    )
    assert torch.autograd.gradcheck(
        lambda x, o, m, w, b: modulated_deform_conv2d(x, o, m, w, b, *arguments),
        (x, offset, mask, weight, bias),
        fast_mode=True,
    )
    assert torch.autograd.gradcheck(
        lambda x, o, m, w: modulated_deform_conv2d(x, o, m, w, None, *arguments),
        (x, offset, mask, weight),
        fast_mode=True,
    )


@pytest.mark.parametrize("layer", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_layers_train_in_bfloat16(device: str, layer: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    conv = layer(4, 6, 3, padding=1).to(device)
    x = random(2, 4, 7, 8).float().to(device).requires_grad_()
    exact = conv(x)
    with torch.autocast(device, torch.bfloat16):
        out = conv(x)
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.02, rtol=0.02)
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
