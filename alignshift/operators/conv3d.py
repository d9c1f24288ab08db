"""Convolution with 3D kernels made of 2D ones, shared by ACS and I3D."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

__all__ = [
    "check_plain_conv2d",
    "check_zero_padding",
    "padded_conv3d",
    "plane_padding",
    "same_padding",
]

_Pair = tuple[int, int]


def check_zero_padding(conv: nn.Conv2d, operator: str) -> None:
    """Check that a convolution pads with zeros, as 3D kernels do over the ends of the stack.

    Raises:
        ValueError: If it pads otherwise.
    """
    if conv.padding_mode != "zeros":
        raise ValueError(f"padding_mode must be 'zeros' for {operator}, got {conv.padding_mode!r}")


def check_plain_conv2d(conv: nn.Conv2d, operator: str) -> None:
    """Check that a convolution is its ``weight``, which a 3D kernel can be made of, and no more.

    Raises:
        ValueError: If its class convolves in its own way, or it does not pad with zeros.
    """
    kind = type(conv)
    for method in ("forward", "_conv_forward"):
        if getattr(kind, method) is not getattr(nn.Conv2d, method):
            raise ValueError(
                f"conv must convolve with its weight alone, like nn.Conv2d, to become {operator}, "
                f"which makes a 3D kernel of it; got {kind.__name__}, which has its own {method}"
            )
    check_zero_padding(conv, operator)


def same_padding(size: int, dilation: int) -> _Pair:
    """Zeros before and after that keep the extent; an even kernel has the odd one after."""
    total = dilation * (size - 1)
    return total // 2, total - total // 2


def plane_padding(
    padding: str | int | _Pair, kernel_size: _Pair, stride: _Pair, dilation: _Pair
) -> tuple[_Pair, _Pair]:
    """Zeros before and after the rows, and the columns, of ``padding`` as `nn.Conv2d` takes it.

    Raises:
        ValueError: If it is another word than ``"same"`` and ``"valid"``, or ``"same"`` with a
            stride.
    """
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"padding must be numbers where stride is not 1, got 'same', {stride}")
        rows, columns = map(same_padding, kernel_size, dilation)
        return rows, columns
    if isinstance(padding, str) and padding != "valid":
        raise ValueError(f"padding must be a number, a pair, 'same' or 'valid', got {padding!r}")
    row, column = (0, 0) if padding == "valid" else _pair(padding)
    return (row, row), (column, column)


def padded_conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Pair,
    padding: tuple[_Pair, _Pair, _Pair],
    dilation: tuple[int, int, int],
    groups: int,
) -> Tensor:
    """Convolve with a 3D kernel, with its own padding at either end of every axis.

    In channels_last_3d PyTorch's 3D convolutions are faster, forward and backward, than contiguous
    ones and than 2D convolutions of shifted slices or of other planes.

    Args:
        x: Volume of shape (N, C, D, H, W).
        weight: Kernel of shape (C_out, C / groups, kd, kh, kw).
        bias: Shape (C_out,).
        stride: In-plane stride; over the slices it is 1.
        padding: Zeros before and after slices, rows and columns; what is negative is cut off.
        dilation: Of slices, rows and columns.
        groups: Number of channel groups.

    Returns:
        Volume of shape (N, C_out, D', H', W') in channels_last_3d.
    """
    common = tuple(max(0, min(ends)) for ends in padding)
    uneven = [end - c for ends, c in zip(padding, common, strict=True) for end in ends]
    x = x.contiguous(memory_format=torch.channels_last_3d)
    if any(uneven):
        # F.pad goes from the last axis to the first.
        slices, rows, columns = uneven[:2], uneven[2:4], uneven[4:]
        x = F.pad(x, [*columns, *rows, *slices])
    out = F.conv3d(x, weight, bias, (1, *stride), common, dilation, groups)
    return out.contiguous(memory_format=torch.channels_last_3d)
