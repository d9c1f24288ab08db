"""Moving two folds of channels between neighboring slices, shared by AlignShift and TSM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["check_n_fold", "shift_folds"]

MIN_N_FOLD = 2


def check_n_fold(n_fold: int, channels: int) -> None:
    """Check that two folds of ``channels // n_fold`` >= 1 channels exist.

    Raises:
        ValueError: If ``n_fold`` is below 2 or above the number of channels.
    """
    if not MIN_N_FOLD <= n_fold <= channels:
        raise ValueError(
            f"n_fold must be between {MIN_N_FOLD} and the number of channels ({channels}), "
            f"got {n_fold}"
        )


def shift_folds(x: Tensor, move: Tensor, fold: int, zero_padding: bool) -> Tensor:
    """Blend the first fold of channels with slice z + 1 and the second with slice z - 1.

    ``out[z] = (1 - move) * x[z] + move * x[z +- 1]``. At the open end the missing neighbor is zero
    with ``zero_padding`` and the edge slice itself without. The other channels pass.

    Args:
        x: Volume of shape (N, C, D, H, W); it is not changed.
        move: Share taken from the neighbor, 0 to 1, shape (N, 1, 1, 1, 1) or (1, 1, 1, 1, 1), of
            the dtype of ``x``. A constant: no gradient flows to it.
        fold: Number of channels in each fold.
        zero_padding: What lies beyond the first and the last slice.

    Returns:
        New volume of the same shape and memory format.
    """
    out: Tensor = _ShiftFolds.apply(x, move, fold, zero_padding, False)
    return out


class _ShiftFolds(torch.autograd.Function):
    """One clone, changed in place; autograd through the same lines would clone once per fold.

    The transpose of a zero-padded shift is the zero-padded shift the other way (``backwards``), so
    that backward, and the backward of that, are this same function.
    """

    @staticmethod
    def forward(x: Tensor, move: Tensor, fold: int, zero_padding: bool, backwards: bool) -> Tensor:
        out = x.clone()
        up, down = _folds(x, fold, backwards)
        new_up, new_down = _folds(out, fold, backwards)
        new_up[:, :, :-1].lerp_(up[:, :, 1:], move)
        new_down[:, :, 1:].lerp_(down[:, :, :-1], move)
        if zero_padding:
            new_up[:, :, -1:].mul_(1 - move)
            new_down[:, :, :1].mul_(1 - move)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, move, *ctx.flags = inputs
        ctx.save_for_backward(move)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        (move,) = ctx.saved_tensors
        fold, zero_padding, backwards = ctx.flags
        grad_x: Tensor = _ShiftFolds.apply(grad_out, move, fold, True, not backwards)
        if not zero_padding:
            # The edge slice stood in for its missing neighbor as well.
            up, down = _folds(grad_out, fold, backwards)
            grad_up, grad_down = _folds(grad_x, fold, backwards)
            grad_up[:, :, -1:].add_(move * up[:, :, -1:])
            grad_down[:, :, :1].add_(move * down[:, :, :1])
        return grad_x, None, None, None, None


def _folds(x: Tensor, fold: int, backwards: bool) -> tuple[Tensor, Tensor]:
    """Views of the fold that takes from slice z + 1 and of the one that takes from z - 1."""
    first, second = x[:, :fold], x[:, fold : 2 * fold]
    return (second, first) if backwards else (first, second)
