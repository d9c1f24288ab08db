"""Temporal Shift Module over slices (Lin et al., arXiv 1811.08383)."""

from __future__ import annotations

from torch import Tensor

from .base import SliceConv
from .checks import check_volume
from .shift import FoldShift, check_n_fold, shift_folds

__all__ = ["TSMConv", "temporal_shift"]


def temporal_shift(x: Tensor, n_fold: int = 8, out: Tensor | None = None) -> Tensor:
    """Shift two folds of channels by one slice (arXiv 1811.08383, section 3).

    The first ``C // n_fold`` channels take slice z + 1, the second as many slice z - 1, with zeros
    at the open ends; the rest passes.

    Args:
        x: Volume of shape (N, C, D, H, W), slices from top to bottom; it is not changed.
        n_fold: One channel in ``n_fold`` is shifted either way.
        out: What to write the result into, of the shape of ``x``, where no gradient is asked for.

    Returns:
        ``out``, or a new volume of the same shape and memory format.

    Raises:
        ValueError: If ``x`` is not five-dimensional or ``n_fold`` is out of range.
    """
    check_volume(x)
    check_n_fold(n_fold, x.shape[1])
    return shift_folds(x, x.new_ones((1,) * x.ndim), x.shape[1] // n_fold, True, out)


class TSMConv(SliceConv):
    """Temporal shift, then a 2D convolution of every slice (arXiv 1811.08383).

    Takes the arguments of `SliceConv`, the settings of `configure`, and a thickness like every
    operator, of which it makes no use.
    """

    fusible = True

    def configure(self, n_fold: int = 8, tsm: bool = True, inplace: bool = True) -> None:
        """Set how many channels are shifted.

        Args:
            n_fold: One channel in ``n_fold`` is shifted either way.
            tsm: Whether to shift at all.
            inplace: Whether to save memory, see `AlignShiftConv.configure`.

        Raises:
            ValueError: If ``n_fold`` is out of range.
        """
        check_n_fold(n_fold, self.in_channels)
        self.n_fold = n_fold
        self.tsm = tsm
        self.inplace = inplace
        self.recompute_mix = inplace and tsm

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Apply `temporal_shift` to ``x`` (N, C, D, H, W)."""
        return temporal_shift(x, self.n_fold, self.scratch_like(x)) if self.tsm else x

    def fold_shift(self, x: Tensor, thickness: Tensor | None) -> FoldShift | None:
        """A shift by a whole slice, unless ``tsm`` is off."""
        if not self.tsm:
            return None
        return FoldShift(x.new_ones((1,) * x.ndim), self.in_channels // self.n_fold, True)
