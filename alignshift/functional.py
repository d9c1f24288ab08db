"""The operators as pure functions of volumes (N, C, D, H, W), slices from top to bottom.

=================  ==================================================  ================
Function           What it computes                                    Module
=================  ==================================================  ================
`slice_conv2d`     A 2D convolution of every slice by itself           `SliceConv`
`align_shift`      Shifts two folds of channels by up to a slice, the  `AlignShiftConv`
                   less the thicker the slices are (arXiv 2005.01969)
`temporal_shift`   Shifts two folds of channels by one slice           `TSMConv`
                   (arXiv 1811.08383)
`adaptive_align`   A learned mixture of slices for every channel       `A3DConv`
                   (arXiv 2109.08684)
`acs_conv`         2D kernels in the axial, coronal and sagittal       `ACSConv`
                   plane (arXiv 1911.10477)
`i3d_conv`         A 3D kernel, from a 2D one by `inflate_kernel`      `I3DConv`
                   (arXiv 1705.07750)
=================  ==================================================  ================

The first of them and the last two convolve; the others mix slices, for `slice_conv2d` to convolve
the mixture. Every one gives a new tensor and takes its arguments, and those of the convolution, in
the order of `torch.nn.functional.conv2d`.

Example:
    >>> x, thickness = torch.rand(2, 16, 7, 32, 32), torch.tensor([1.0, 5.0])
    >>> mixed = align_shift(x, thickness, n_fold=8, ref_thickness=2.0)
    >>> slice_conv2d(mixed, torch.rand(24, 16, 3, 3), padding=1).shape
    torch.Size([2, 24, 7, 32, 32])
"""

from __future__ import annotations

from .operators.a3d import adaptive_align
from .operators.acs import acs_conv
from .operators.align_shift import align_shift
from .operators.base import slice_conv2d
from .operators.i3d import i3d_conv, inflate_kernel
from .operators.tsm import temporal_shift

__all__ = [
    "acs_conv",
    "adaptive_align",
    "align_shift",
    "i3d_conv",
    "inflate_kernel",
    "slice_conv2d",
    "temporal_shift",
]
