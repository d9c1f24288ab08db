"""Gradients of convolutions, chunk by chunk, against autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alignshift.models import workspace
from alignshift.models.spatial_gradient import (
    _ByLibrary,
    _ByWindows,
    keeps_size,
    spatial_gradient,
)
from alignshift.models.workspace import Workspace

SHAPE = (2, 3, 6, 5)
GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1},
    {"kernel_size": (3, 1), "padding": (1, 0)},
    {"kernel_size": (1, 5), "padding": (0, 4), "dilation": (1, 2)},
    {"kernel_size": 3, "padding": 3, "dilation": 3},
]


def convolution(**geometry: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(4, 7, bias=False, **geometry).double()


def gradients(
    kind: Any, conv: nn.Conv2d, x: Tensor, grad: Tensor, chunk_channels: int
) -> tuple[Tensor, Tensor]:
    """By what was convolved, (N, D, H, W, C), and by the kernel."""
    space = Workspace(x, SHAPE[1])
    volume = space.unfold(x.contiguous(memory_format=torch.channels_last))
    gradient = kind(conv, conv.weight.detach(), grad, space)
    found = torch.empty_like(volume)
    for place in space.chunks(chunk_channels):
        found[place] = gradient.of_chunk(volume[place].contiguous(), place)
    return found, gradient.by_kernel()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(
    ("kind", "chunk_bytes"),
    [(_ByWindows, 1), (_ByWindows, 4000), (_ByWindows, 1 << 20), (_ByLibrary, 1 << 20)],
)
def test_is_what_autograd_finds(
    kind: Any, chunk_bytes: int, geometry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "CHUNK_BYTES", chunk_bytes)
    conv = convolution(**geometry)
    batch, depth, height, width = SHAPE
    x = torch.randn(batch * depth, 4, height, width, dtype=torch.float64, requires_grad=True)
    out = conv(x)
    grad = torch.randn_like(out).contiguous(memory_format=torch.channels_last)
    by_x, by_kernel = torch.autograd.grad(out, [x, conv.weight], grad)
    found, found_kernel = gradients(kind, conv, x.detach(), grad, 4)
    torch.testing.assert_close(found, by_x.movedim(1, -1).view_as(found))
    torch.testing.assert_close(found_kernel, by_kernel)


def test_sums_of_half_precision_are_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "CHUNK_BYTES", 1)
    conv = nn.Conv2d(1, 1, 1, bias=False).bfloat16()
    x = torch.ones(1, 1, 512, 1, dtype=torch.bfloat16)
    space = Workspace(x, 1)
    gradient = spatial_gradient(conv, conv.weight.detach(), x, space)
    for place in space.chunks(1):
        gradient.of_chunk(space.unfold(x)[place], place)
    # One after another in bfloat16, ones add up to 256 and no further.
    assert float(gradient.by_kernel()) == 512


@pytest.mark.parametrize(
    ("geometry", "keeps"),
    [
        *((geometry, True) for geometry in GEOMETRIES),
        ({"kernel_size": 3}, False),
        ({"kernel_size": 2, "padding": 1}, False),
        ({"kernel_size": 3, "padding": 1, "dilation": 2}, False),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, False),
        ({"kernel_size": 3, "padding": "same"}, False),
    ],
    ids=str,
)
def test_tells_who_keeps_the_size(geometry: dict[str, Any], keeps: bool) -> None:
    assert keeps_size(convolution(**geometry)) == keeps
