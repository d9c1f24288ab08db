"""Temporal Shift Module over slices (Lin et al., arXiv 1811.08383)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import SliceConv, check_volume
from .shift import check_n_fold, shift_folds

__all__ = ["TSMConv", "temporal_shift"]


def temporal_shift(x: Tensor, n_fold: int = 8) -> Tensor:
    """Shift two folds of channels by one slice (arXiv 1811.08383, section 3).

    The first ``C // n_fold`` channels take slice z + 1, the second as many slice z - 1, with zeros
    at the open ends; the rest passes.

    Args:
        x: Volume of shape (N, C, D, H, W), slices from top to bottom; it is not changed.
        n_fold: One channel in ``n_fold`` is shifted either way.

    Returns:
        New volume of the same shape and memory format.

    Raises:
        ValueError: If ``x`` is not five-dimensional or ``n_fold`` is out of range.
    """
    check_volume(x)
    check_n_fold(n_fold, x.shape[1])
    return shift_folds(x, x.new_ones((1,) * x.ndim), x.shape[1] // n_fold, zero_padding=True)


class TSMConv(SliceConv):
    """Temporal shift, then a 2D convolution of every slice (arXiv 1811.08383).

    Takes a thickness like every operator and makes no use of it.

    Args:
        *args: As in `SliceConv`.
        n_fold: One channel in ``n_fold`` is shifted either way.
        tsm: Whether to shift at all.
        inplace: Whether to save memory: backward shifts again instead of keeping the shifted copy
            of the input. Results and gradients are the same, and the caller's tensor is never
            changed either way.
        **kwargs: As in `SliceConv`.

    Raises:
        ValueError: If ``n_fold`` is out of range.
    """

    def __init__(
        self, *args: Any, n_fold: int = 8, tsm: bool = True, inplace: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        check_n_fold(n_fold, self.in_channels)
        self.n_fold = n_fold
        self.tsm = tsm
        self.recompute_mix = inplace and tsm

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Apply `temporal_shift` to ``x`` (N, C, D, H, W)."""
        return temporal_shift(x, self.n_fold) if self.tsm else x

    def extra_repr(self) -> str:
        """Describe the convolution and the shift."""
        convolution = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{convolution}, n_fold={self.n_fold}, tsm={self.tsm}"
