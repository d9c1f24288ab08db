"""Padding of 3D kernels, and which 2D convolutions they can be made of."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from alignshift.operators.conv3d import (
    check_plain_conv2d,
    check_zero_padding,
    padded_conv3d,
    plane_padding,
    same_padding,
)
from tests.alignshift.operators.operator_cases import volume


class StandardizedConv2d(nn.Conv2d):
    """Convolves with another kernel than its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class OwnPaddingConv2d(nn.Conv2d):
    """Pads in its own way."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(F.pad(x, (0, 1, 0, 1)), weight, bias)


@pytest.mark.parametrize(
    ("size", "dilation", "expected"),
    [
        (1, 1, (0, 0)),
        (1, 3, (0, 0)),
        (2, 1, (0, 1)),
        (3, 1, (1, 1)),
        (3, 2, (2, 2)),
        (4, 1, (1, 2)),
    ],
)
def test_same_padding(size: int, dilation: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, dilation) == expected


def test_plane_padding_takes_what_conv2d_takes() -> None:
    def pad(padding: str | int | tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        return plane_padding(padding, (3, 4), (1, 1), (2, 1))

    assert pad(1) == ((1, 1), (1, 1))
    assert pad((0, 2)) == ((0, 0), (2, 2))
    assert pad("valid") == ((0, 0), (0, 0))
    assert pad("same") == ((2, 2), (1, 2))


def test_wrong_padding_is_named() -> None:
    with pytest.raises(ValueError, match=r"padding must be a number.* 'valid', got 'full'"):
        plane_padding("full", (3, 3), (1, 1), (1, 1))
    with pytest.raises(ValueError, match=r"padding must be numbers where stride is not 1, got 's"):
        plane_padding("same", (3, 3), (1, 2), (1, 1))


def test_uneven_and_negative_padding() -> None:
    x, weight = volume(1, 2, 3, 6), torch.randn(4, 2, 2, 3, 3)
    padding = ((0, 1), (-1, 2), (1, 1))
    out = padded_conv3d(x, weight, None, (1, 2), padding, (1, 1, 1), 1)
    below = torch.cat([x, torch.zeros(1, 2, 1, 6, 6)], dim=2)[:, :, :, 1:]
    padded = torch.cat([below, torch.zeros(1, 2, 4, 2, 6)], dim=3)
    torch.testing.assert_close(out, F.conv3d(padded, weight, None, (1, 1, 2), (0, 0, 1)))


def test_plain_convolutions_can_become_3d() -> None:
    for conv in (
        nn.Conv2d(4, 4, 3),
        nn.LazyConv2d(4, 3),
        parametrizations.weight_norm(nn.Conv2d(4, 4, 3)),
    ):
        check_plain_conv2d(conv, "ACSConv")


@pytest.mark.parametrize(
    ("kind", "method"), [(StandardizedConv2d, "forward"), (OwnPaddingConv2d, "_conv_forward")]
)
def test_convolutions_of_their_own_kind_are_refused(kind: type[nn.Conv2d], method: str) -> None:
    message = f"to become ACSConv.* got {kind.__name__}, which has its own {method}$"
    with pytest.raises(ValueError, match=message):
        check_plain_conv2d(kind(4, 4, 3), "ACSConv")


def test_other_padding_than_zeros_is_refused() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    for check in (check_plain_conv2d, check_zero_padding):
        with pytest.raises(ValueError, match="padding_mode must be 'zeros' for I3DConv, got 'refl"):
            check(conv, "I3DConv")
