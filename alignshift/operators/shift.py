"""Moving two folds of channels between neighboring slices, shared by AlignShift and TSM."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["FoldShift", "check_n_fold", "shift_folds"]

MIN_N_FOLD = 2
#: Up to so many slices are shifted in place one after the other on a CPU: less time than a copy of
#: the folds takes. Each further slice would be an operator more.
FEW_SLICES = 4


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

    @property
    def channels(self) -> slice:
        """The channels of both folds."""
        return slice(2 * self.fold)

    def of(self, stacks: slice) -> FoldShift:
        """The shift of some of the stacks."""
        if len(self.move) == 1 or stacks == slice(0, len(self.move)):
            return self
        return FoldShift(self.move[stacks], self.fold, self.zero_padding)

    def apply_(self, x: Tensor) -> Tensor:
        """Shift ``x`` (N, C, D, H, W) in place, where no gradient is asked for."""
        if _slice_by_slice(x):
            move = self.move[:, :, 0]
            for slices in self._from_open_end(x):
                _blend_(slices, move)
                if self.zero_padding:
                    _fade_(slices[-1], move)
            return x
        return _shift(x[:, self.channels].clone(), x, *self)

    def undo_(self, grad: Tensor) -> Tensor:
        """Turn a gradient by the shifted volume into that by the volume, in place."""
        if _slice_by_slice(grad):
            move = self.move[:, :, 0]
            for slices in self._from_open_end(grad):
                _undo_(slices[::-1], move, self.zero_padding)
            return grad
        folds = grad[:, self.channels].clone()
        _shift(folds, grad, self.move, self.fold, True, backwards=True)
        if not self.zero_padding:
            _add_edges(folds, grad, self.move, self.fold, backwards=False)
        return grad

    def _from_open_end(self, x: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Slices (N, fold, H, W) of both folds; each takes from the next, the last has none."""
        first, second = (part.unbind(2) for part in x[:, self.channels].chunk(2, 1))
        return first, second[::-1]


def _slice_by_slice(x: Tensor) -> bool:
    return x.is_cpu and x.shape[2] <= FEW_SLICES


def _blend_(slices: Sequence[Tensor], move: Tensor) -> None:
    """Have each slice but the last take from the next; ``move`` has the shape (N, 1, 1, 1)."""
    for own, neighbor in pairwise(slices):
        own.lerp_(neighbor, move)


def _fade_(own: Tensor, move: Tensor) -> None:
    """Have a slice take from nothing."""
    own.addcmul_(own, move, value=-1)


def _undo_(slices: Sequence[Tensor], move: Tensor, zero_padding: bool) -> None:
    """Undo one fold of a gradient, in which slices take the other way."""
    if not zero_padding:
        if len(slices) == 1:
            return
        edge, neighbor = slices[:2]
        edge.addcmul_(neighbor, move)  # it had kept what it has no neighbor for
        slices = slices[1:]
    _blend_(slices, move)
    _fade_(slices[-1], move)


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
