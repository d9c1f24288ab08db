"""Moving two folds of channels between neighboring slices, shared by AlignShift and TSM."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["FoldShift", "check_n_fold", "shift_folds", "unshift_folds_"]

MIN_N_FOLD = 2


def check_n_fold(n_fold: int, channels: int) -> None:
    """Check that two folds of ``channels // n_fold`` >= 1 channels exist.

    Raises:
        TypeError: If ``n_fold`` is no integer.
        ValueError: If it is below 2 or above the number of channels.
    """
    if not isinstance(n_fold, int):
        raise TypeError(f"n_fold must be an integer, got {n_fold!r}")
    if not MIN_N_FOLD <= n_fold <= channels:
        raise ValueError(
            f"n_fold must be between {MIN_N_FOLD} and the number of channels ({channels}), "
            f"got {n_fold}"
        )


def shift_folds(
    x: Tensor, move: Tensor, fold: int, zero_padding: bool, out: Tensor | None = None
) -> Tensor:
    """Blend the first fold of channels with slice z + 1 and the second with slice z - 1.

    ``out[z] = (1 - move) * x[z] + move * x[z +- 1]``. At the open end the missing neighbor is zero
    with ``zero_padding`` and the edge slice itself without. The other channels pass.

    Args:
        x: Volume of shape (N, C, D, H, W); it is not changed.
        move: Share taken from the neighbor, 0 to 1, shape (N, 1, 1, 1, 1) or (1, 1, 1, 1, 1), of
            the dtype of ``x``. A constant: no gradient flows to it.
        fold: Number of channels in each fold.
        zero_padding: What lies beyond the first and the last slice.
        out: What to write the result into, where no gradient is asked for.

    Returns:
        ``out``, or a new volume of the same shape and memory format.
    """
    if out is not None:
        return _shift(x, out.copy_(x), move, fold, zero_padding)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _shift(x, x.clone(), move, fold, zero_padding)
    shifted: Tensor = _ShiftFolds.apply(x, move, fold, zero_padding, False)
    return shifted


def unshift_folds_(grad: Tensor, move: Tensor, fold: int, zero_padding: bool) -> Tensor:
    """Turn the gradient by the result of `shift_folds` into that by its input, in place.

    Args:
        grad: Volume of shape (N, C, D, H, W); changed.
        move: As in `shift_folds`.
        fold: As in `shift_folds`.
        zero_padding: As in `shift_folds`.

    Returns:
        ``grad``.
    """
    folds = grad[:, : 2 * fold].clone()
    _shift(folds, grad, move, fold, True, backwards=True)
    if not zero_padding:
        _add_edges(folds, grad, move, fold, backwards=False)
    return grad


class FoldShift(NamedTuple):
    """A shift of folds ready for use: the arguments of `shift_folds` beside the volume.

    Attributes:
        move: Share taken from the neighbor, of shape (N, 1, 1, 1, 1) or (1, 1, 1, 1, 1).
        fold: Number of channels in each fold.
        zero_padding: What lies beyond the first and the last slice.
    """

    move: Tensor
    fold: int
    zero_padding: bool

    def of(self, stacks: slice) -> FoldShift:
        """The shift of some of the stacks."""
        if len(self.move) == 1 or stacks == slice(0, len(self.move)):
            return self
        return FoldShift(self.move[stacks], self.fold, self.zero_padding)

    def apply_(self, x: Tensor) -> Tensor:
        """Shift ``x`` (N, C, D, H, W) in place, where no gradient is asked for.

        Returns:
            Both folds as they were before.
        """
        folds = x[:, : 2 * self.fold].clone()
        _shift(folds, x, *self)
        return folds

    def undo_(self, grad: Tensor) -> Tensor:
        """Turn a gradient by the shifted volume into that by the volume, in place."""
        return unshift_folds_(grad, *self)


def _shift(
    x: Tensor, out: Tensor, move: Tensor, fold: int, zero_padding: bool, backwards: bool = False
) -> Tensor:
    """The shift itself, in ``out``, which is as ``x`` before, in the folds and behind them."""
    up, down = _folds(fold, backwards)
    out[:, up, :-1].lerp_(x[:, up, 1:], move)
    out[:, down, 1:].lerp_(x[:, down, :-1], move)
    if zero_padding:
        for edge in (out[:, up, -1:], out[:, down, :1]):
            edge.addcmul_(edge, move, value=-1)
    return out


class _ShiftFolds(torch.autograd.Function):
    """Autograd through the lines of `_shift` would clone once more for each fold.

    The transpose of a zero-padded shift is the zero-padded shift the other way (``backwards``), so
    that backward, and the backward of that, are this same function.
    """

    @staticmethod
    def forward(x: Tensor, move: Tensor, fold: int, zero_padding: bool, backwards: bool) -> Tensor:
        return _shift(x, x.clone(), move, fold, zero_padding, backwards)

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
            _add_edges(grad_out, grad_x, move, fold, backwards)
        return grad_x, None, None, None, None


def _add_edges(source: Tensor, grad: Tensor, move: Tensor, fold: int, backwards: bool) -> None:
    """Add the gradients of the edge slices as stand-ins for their missing neighbors."""
    up, down = _folds(fold, backwards)
    grad[:, up, -1:].addcmul_(source[:, up, -1:], move)
    grad[:, down, :1].addcmul_(source[:, down, :1], move)


def _folds(fold: int, backwards: bool) -> tuple[slice, slice]:
    """The channels that take from slice z + 1 and those that take from z - 1."""
    first, second = slice(fold), slice(fold, 2 * fold)
    return (second, first) if backwards else (first, second)
