"""Slice-wise convolution: the part that every 3D-context operator shares."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["SliceConv", "check_volume", "fold_slices", "slice_conv2d", "unfold_slices"]

_Pair = tuple[int, int]
VOLUME_NDIM = 5


def check_volume(x: Tensor, channels: int | None = None) -> None:
    """Check that ``x`` is a stack of slices.

    Args:
        x: Tensor that should be of shape (N, C, D, H, W).
        channels: Number of channels that it should have, any number where ``None``.

    Raises:
        ValueError: If it has another number of dimensions or of channels.
    """
    if x.ndim != VOLUME_NDIM:
        raise ValueError(f"x must be of shape (N, C, D, H, W), got {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(
            f"x must have {channels} channels in (N, C, D, H, W), got shape {tuple(x.shape)}"
        )


def fold_slices(x: Tensor) -> Tensor:
    """Fold the slices into the batch: (N, C, D, H, W) -> (N * D, C, H, W) in channels_last.

    A view where ``x`` is in channels_last_3d, one copy otherwise.
    """
    if x.shape[1] == 1:
        # One channel is laid out alike in both formats; only the strides of the view tell the
        # convolution which of its kernels to take, and the channels_last one is much faster.
        return x.contiguous().flatten(0, 2).unsqueeze(-1).movedim(-1, 1)
    return x.contiguous(memory_format=torch.channels_last_3d).transpose(1, 2).flatten(0, 1)


def unfold_slices(x: Tensor, num_slices: int) -> Tensor:
    """Undo `fold_slices`: (N * D, C, H, W) -> (N, C, D, H, W), always a view."""
    # The batch is given rather than inferred: -1 is ambiguous for an empty one.
    batch = x.shape[0] // num_slices if num_slices else 0
    return x.view(batch, num_slices, *x.shape[1:]).transpose(1, 2)


def slice_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | _Pair = 1,
    padding: str | int | _Pair = 0,
    dilation: int | _Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve each slice with a 2D kernel, that is, convolve with a (1, k, k) kernel.

    Runs as one 2D convolution over N * D images, whose kernels are far faster than the 3D ones.

    Args:
        x: Volume of shape (N, C, D, H, W), fastest in channels_last_3d.
        weight: 2D kernel of shape (C_out, C / groups, k, k).
        bias: Shape (C_out,).
        stride: In-plane stride.
        padding: In-plane padding.
        dilation: In-plane dilation.
        groups: Number of channel groups.

    Returns:
        Volume of shape (N, C_out, D, H', W') in channels_last_3d.

    Raises:
        ValueError: If ``x`` is not five-dimensional.
    """
    check_volume(x)
    out = F.conv2d(fold_slices(x), weight, bias, stride, padding, dilation, groups)
    return unfold_slices(out, x.shape[2])


class SliceConv(nn.Conv2d):
    """2D convolution of every slice of a volume; base class of the 3D-context operators.

    Being an `nn.Conv2d` with a 4-D weight, it is initialized like one and loads 2D checkpoints as
    they are. An operator overrides `mix_slices`, which exchanges information between slices.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels C_out of the output.
        kernel_size: In-plane kernel size.
        stride: In-plane stride.
        padding: In-plane zero padding.
        dilation: In-plane dilation.
        groups: Number of channel groups.
        bias: Whether to add a bias.
    """

    # Whether backward mixes the slices again rather than keep the mixed copy from forward.
    recompute_mix: bool = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | _Pair,
        stride: int | _Pair = 1,
        padding: str | int | _Pair = 0,
        dilation: int | _Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Mix the slices of ``x`` (N, C, D, H, W); this base class leaves it alone."""
        return x

    def forward(self, x: Tensor, thickness: Tensor | None = None) -> Tensor:
        """Mix the slices, then convolve each.

        Args:
            x: Volume of shape (N, C, D, H, W), slices from top to bottom.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Returns:
            Volume of shape (N, C_out, D, H', W') in channels_last_3d.

        Raises:
            ValueError: If the shape of ``x`` or ``thickness`` does not fit.
        """
        check_volume(x, self.in_channels)
        # A compiler decides by itself what it keeps and what it computes twice.
        if self.recompute_mix and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Stops as soon as the convolution's input is there again: it is not convolved twice.
            out: Tensor = checkpoint(
                self._mix_and_convolve, x, thickness, use_reentrant=False, preserve_rng_state=False
            )
            return out
        return self._mix_and_convolve(x, thickness)

    def _mix_and_convolve(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        args: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        return slice_conv2d(self.mix_slices(x, thickness), self.weight, self.bias, *args)
