"""Operators that mix the slices of a volume and convolve each slice with a 2D kernel."""

from __future__ import annotations

from .a3d import A3DConv, adaptive_align
from .acs import ACSConv, acs_conv
from .align_shift import AlignShiftConv, align_shift
from .base import SliceConv, slice_conv2d
from .folding import fold_slices, unfold_slices
from .i3d import I3DConv, i3d_conv, inflate_kernel
from .tsm import TSMConv, temporal_shift

__all__ = [
    "OPERATORS",
    "A3DConv",
    "ACSConv",
    "AlignShiftConv",
    "I3DConv",
    "SliceConv",
    "TSMConv",
    "acs_conv",
    "adaptive_align",
    "align_shift",
    "fold_slices",
    "get_operator",
    "i3d_conv",
    "inflate_kernel",
    "slice_conv2d",
    "temporal_shift",
    "unfold_slices",
]

OPERATORS: dict[str, type[SliceConv]] = {
    operator.__name__: operator
    for operator in (SliceConv, AlignShiftConv, TSMConv, A3DConv, ACSConv, I3DConv)
}


def get_operator(name: str) -> type[SliceConv]:
    """Look an operator up by its class name.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    if name not in OPERATORS:
        raise ValueError(f"operator must be one of {', '.join(sorted(OPERATORS))}, got {name!r}")
    return OPERATORS[name]
