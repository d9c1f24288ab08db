"""Slices in the batch: what lets 2D layers and kernels work on volumes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fold_result", "fold_slices", "unfold_slices"]


def fold_slices(x: Tensor) -> Tensor:
    """Fold the slices into the batch: (N, C, D, H, W) -> (N * D, C, H, W) in channels_last.

    A view where ``x`` is in channels_last_3d, one copy otherwise.
    """
    if x.shape[1] == 1:
        # One channel is laid out alike in both formats; only the strides of the view tell the
        # convolution which of its kernels to take, and the channels_last one is much faster.
        return x.contiguous().flatten(0, 2).unsqueeze(-1).movedim(-1, 1)
    return x.contiguous(memory_format=torch.channels_last_3d).transpose(1, 2).flatten(0, 1)


def fold_result(x: Tensor) -> Tensor:
    """`fold_slices` for a volume that was just computed and that nobody else holds.

    It takes the memory of ``x`` over without counting as a view of it, which could not be changed
    in place after a forward under `torch.no_grad`, as the result of a 2D convolution can.

    Args:
        x: Shape (N, C, D, H, W). What computed it must not need it for backward.
    """
    slices = x.contiguous(memory_format=torch.channels_last_3d).transpose(1, 2)
    folded: Tensor = torch.ops.aten._unsafe_view(
        slices, (slices.shape[0] * slices.shape[1], *slices.shape[2:])
    )
    return folded


def unfold_slices(x: Tensor, num_slices: int) -> Tensor:
    """Undo `fold_slices`: (N * D, C, H, W) -> (N, C, D, H, W), always a view."""
    # The batch is given rather than inferred: -1 is ambiguous for an empty one.
    batch = x.shape[0] // num_slices if num_slices else 0
    return x.view(batch, num_slices, *x.shape[1:]).transpose(1, 2)
