"""Operators, models and weights that make 2D networks aware of neighboring CT slices."""

from __future__ import annotations

from .models.densenet import TruncatedDenseNet3d
from .operators import (
    OPERATORS,
    A3DConv,
    AlignShiftConv,
    SliceConv,
    TSMConv,
    adaptive_align,
    align_shift,
    get_operator,
    slice_conv2d,
    temporal_shift,
)
from .weights import LoadReport, load_2d_weights, read_state_dict

__version__ = "0.1.0"

__all__ = [
    "OPERATORS",
    "A3DConv",
    "AlignShiftConv",
    "LoadReport",
    "SliceConv",
    "TSMConv",
    "TruncatedDenseNet3d",
    "__version__",
    "adaptive_align",
    "align_shift",
    "get_operator",
    "load_2d_weights",
    "read_state_dict",
    "slice_conv2d",
    "temporal_shift",
]
