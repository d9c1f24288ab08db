"""Slices in the batch: what lets 2D layers and kernels work on volumes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fold_slices", "unfold_slices"]


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
