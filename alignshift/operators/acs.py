"""ACS: 2D kernels in the axial, coronal and sagittal plane (Yang et al., arXiv 1911.10477)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .base import SliceConv, slice_conv2d
from .checks import check_volume
from .conv3d import (
    check_plain_conv2d,
    check_zero_padding,
    padded_conv3d,
    plane_padding,
    same_padding,
)
from .folding import fold_result

__all__ = ["ACSConv", "acs_conv"]

_Pair = tuple[int, int]
# Where a (C_out, C, k, k) kernel gets its axis of size one to lie in a plane across the slices.
CORONAL, SAGITTAL = 3, 4


def acs_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | _Pair = 1,
    padding: str | int | _Pair = 0,
    dilation: int | _Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve with 2D kernels of which a third lies in each of three planes.

    Section 3.2 of arXiv 1911.10477. The first third of the output channels comes from axial
    kernels, (1, k, k), the second from coronal ones, (k, 1, k), the last from sagittal ones,
    (k, k, 1); the first thirds take what remains. With groups it is the groups that are split, so
    that every kernel keeps its input channels.

    The output is as large as that of the 2D convolution, and has as many slices as ``x``. Along an
    axis where a kernel is one wide, it lies where the center of the 2D kernel would. Kernels of one
    pixel give `slice_conv2d`.

    Args:
        x: Volume of shape (N, C, D, H, W), fastest in channels_last_3d.
        weight: 2D kernel of shape (C_out, C / groups, k, k).
        bias: Shape (C_out,).
        stride: In-plane stride.
        padding: In-plane padding with zeros. Over the ends of the stack lie as many as keep D.
        dilation: Dilation along the two axes of the kernel, wherever these lie.
        groups: Number of channel groups.

    Returns:
        Volume of shape (N, C_out, D, H', W') in channels_last_3d.

    Raises:
        ValueError: If ``x`` is not five-dimensional or ``padding`` makes no sense.
    """
    check_volume(x)
    if weight.shape[2:] == (1, 1):
        return slice_conv2d(x, weight, bias, stride, padding, dilation, groups)
    size, step, spread = _pair(weight.shape[2:]), _pair(stride), _pair(dilation)
    zeros = plane_padding(padding, size, step, spread)
    x = x.contiguous(memory_format=torch.channels_last_3d)  # once for all planes
    axial, *others = _thirds(x, weight, bias, groups)
    outputs = [slice_conv2d(axial.x, axial.weight, axial.bias, step, padding, spread, axial.groups)]
    for plane, part in zip((CORONAL, SAGITTAL), others, strict=True):
        if len(part.weight):
            kernel = part.weight.unsqueeze(plane)
            geometry = _geometry_across(plane, size, zeros, spread)
            args = (part.x, kernel, part.bias, step, *geometry, part.groups)
            outputs.append(padded_conv3d(*args))
    return torch.cat(outputs, dim=1)


class _Third(NamedTuple):
    """The part of a convolution that lies in one plane, perhaps without output channels."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    groups: int


def _thirds(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> list[_Third]:
    """Split the output channels, or the groups with their input channels, in three."""
    units = groups if groups > 1 else weight.shape[0]
    shares = [units // 3 + (units % 3 > i) for i in range(3)]
    channels = [share * (weight.shape[0] // units) for share in shares]
    weights = torch.split(weight, channels)
    biases = [None] * 3 if bias is None else torch.split(bias, channels)
    if groups == 1:
        return list(map(_Third, [x] * 3, weights, biases, [1] * 3))
    inputs = torch.split(x, [share * weight.shape[1] for share in shares], dim=1)
    return list(map(_Third, inputs, weights, biases, shares))


def _geometry_across(
    plane: int, size: _Pair, zeros: tuple[_Pair, _Pair], dilation: _Pair
) -> tuple[tuple[_Pair, _Pair, _Pair], tuple[int, int, int]]:
    """Padding and dilation, of slices, rows and columns, of a kernel in another plane.

    Args:
        plane: Which one.
        size: Size of the 2D kernel.
        zeros: In-plane padding of the 2D convolution, before and after rows and columns.
        dilation: Of the 2D kernel.
    """
    rows, columns = size
    kernel = (rows, 1, columns) if plane == CORONAL else (rows, columns, 1)
    spread = (dilation[0], 1, dilation[1]) if plane == CORONAL else (*dilation, 1)
    over_slices, *in_3d = map(same_padding, kernel, spread)
    in_2d = map(same_padding, size, dilation)
    # What the kernel reaches beyond its center more or less than the 2D one did, padding makes up.
    moved = [
        (before + new[0] - old[0], after + new[1] - old[1])
        for (before, after), new, old in zip(zeros, in_3d, in_2d, strict=True)
    ]
    return (over_slices, moved[0], moved[1]), spread


class ACSConv(SliceConv):
    """2D kernels in three planes of the volume (arXiv 1911.10477).

    Takes the arguments of `SliceConv` and no settings of its own, and a thickness like every
    operator, of which it makes no use. It has the weight of the 2D convolution.
    """

    def configure(self) -> None:
        """Check the padding.

        Raises:
            ValueError: If ``padding_mode`` is not ``"zeros"``.
        """
        check_zero_padding(self, "ACSConv")

    @classmethod
    def check_convertible(cls, conv: nn.Conv2d) -> None:
        """Check that a 2D convolution is its ``weight``, perhaps a parametrized one, and no more.

        Raises:
            ValueError: If its class convolves in its own way, or it does not pad with zeros.
        """
        check_plain_conv2d(conv, "ACSConv")

    def convolve(self, x: Tensor) -> Tensor:
        """Apply `acs_conv` to ``x`` (N, C, D, H, W)."""
        geometry: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        return acs_conv(x, self.weight, self.bias, *geometry)

    def convolve_folded(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same, with the slices of the result in the batch."""
        return fold_result(self.convolve(x))
