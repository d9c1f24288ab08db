"""AlignShift: a slice shift as wide as the slices are thin (Yang et al., arXiv 2005.01969)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import SliceConv
from .checks import check_thickness, check_volume
from .shift import FoldShift, check_n_fold, shift_folds

__all__ = ["AlignShiftConv", "align_shift"]


def align_shift(
    x: Tensor,
    thickness: Tensor,
    n_fold: int = 8,
    ref_thickness: float = 2.0,
    shift_padding_zero: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Shift two folds of channels between slices, the less the thicker the slices are.

    With ``keep = 1 - clamp(ref_thickness / thickness, 0, 1)`` per sample (arXiv 2005.01969, section
    2.2), the first ``C // n_fold`` channels become ``keep * x[z] + (1 - keep) * x[z + 1]``, the
    second as many the same with ``x[z - 1]``; the rest passes. Slices up to the reference give
    TSM, thick ones the 2D network. Unknown thickness (NaN or <= 0) means the 2D network.

    Args:
        x: Volume of shape (N, C, D, H, W), slices from top to bottom; it is not changed.
        thickness: Slice thickness in mm, shape (N,) or (N, 1). No gradient flows to it.
        n_fold: One channel in ``n_fold`` is shifted either way.
        ref_thickness: Thickness in mm up to which channels are shifted by a whole slice.
        shift_padding_zero: Beyond the stack lie zeros, rather than the edge slice repeated.
        out: What to write the result into, of the shape of ``x``, where no gradient is asked for.

    Returns:
        ``out``, or a new volume of the same shape and memory format.

    Raises:
        ValueError: If a shape does not fit, or ``n_fold`` or ``ref_thickness`` is out of range.
    """
    check_volume(x)
    check_n_fold(n_fold, x.shape[1])
    _check_ref_thickness(ref_thickness)
    move = _shifted_share(thickness, ref_thickness, x)
    return shift_folds(x, move, x.shape[1] // n_fold, shift_padding_zero, out)


def _shifted_share(thickness: Tensor, ref_thickness: float, x: Tensor) -> Tensor:
    """Compute 1 - keep of each sample of ``x``, shape (N, 1, 1, 1, 1)."""
    if thickness is None:
        raise ValueError(
            "thickness must be the slice thickness in mm, shape (N,) or (N, 1), got None "
            "(give NaN where it is unknown)"
        )
    check_thickness(thickness, x)
    # In float32 at least: a ratio of half precision numbers would move the slices by rounding.
    dtype = torch.promote_types(x.dtype, torch.float32)
    mm = thickness.detach().to(dtype).view(-1, 1, 1, 1, 1)
    share = torch.where(mm > 0, (ref_thickness / mm).clamp(max=1), 0)  # NaN > 0 is false
    return share.to(x.dtype)


def _check_ref_thickness(ref_thickness: float) -> None:
    if not 0 < ref_thickness < math.inf:
        raise ValueError(f"ref_thickness must be > 0 mm and finite, got {ref_thickness}")


class AlignShiftConv(SliceConv):
    """AlignShift, then a 2D convolution of every slice (arXiv 2005.01969).

    Takes the arguments of `SliceConv` and the settings of `configure`.
    """

    fusible = True

    def configure(
        self,
        n_fold: int = 8,
        alignshift: bool = True,
        inplace: bool = True,
        ref_thickness: float = 2.0,
        shift_padding_zero: bool = False,
    ) -> None:
        """Set how far channels are shifted.

        Args:
            n_fold: One channel in ``n_fold`` is shifted either way.
            alignshift: Whether to shift at all.
            inplace: Whether to save memory: backward shifts again instead of keeping the shifted
                copy of the input. Results and gradients are the same, and the caller's tensor is
                never changed either way.
            ref_thickness: Thickness in mm up to which channels are shifted by a whole slice.
            shift_padding_zero: Beyond the stack lie zeros, rather than the edge slice repeated.

        Raises:
            ValueError: If ``n_fold`` or ``ref_thickness`` is out of range.
        """
        check_n_fold(n_fold, self.in_channels)
        _check_ref_thickness(ref_thickness)
        self.n_fold = n_fold
        self.alignshift = alignshift
        self.inplace = inplace
        self.ref_thickness = ref_thickness
        self.shift_padding_zero = shift_padding_zero
        self.recompute_mix = inplace and alignshift

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Apply `align_shift` to ``x`` (N, C, D, H, W)."""
        if not self.alignshift:
            return x
        settings = (self.n_fold, self.ref_thickness, self.shift_padding_zero)
        out = self.scratch_like(x)
        return align_shift(x, thickness, *settings, out)  # type: ignore[arg-type]

    def fold_shift(self, x: Tensor, thickness: Tensor | None) -> FoldShift | None:
        """The shift of `align_shift`, unless ``alignshift`` is off."""
        if not self.alignshift:
            return None
        move = _shifted_share(thickness, self.ref_thickness, x)  # type: ignore[arg-type]
        return FoldShift(move, self.in_channels // self.n_fold, self.shift_padding_zero)
