"""Operators, models and weights that make 2D networks aware of neighboring CT slices."""

from __future__ import annotations

from .converter import ConversionReport, Converter, SliceNetwork, convert_to_3d
from .models import TruncatedDenseNet3d
from .operators import (
    OPERATORS,
    A3DConv,
    ACSConv,
    AlignShiftConv,
    I3DConv,
    SliceConv,
    TSMConv,
    acs_conv,
    adaptive_align,
    align_shift,
    get_operator,
    i3d_conv,
    inflate_kernel,
    slice_conv2d,
    temporal_shift,
)
from .weights import LoadReport, adapt_input_channels, load_2d_weights, read_state_dict

__version__ = "0.1.0"

__all__ = [
    "OPERATORS",
    "A3DConv",
    "ACSConv",
    "AlignShiftConv",
    "ConversionReport",
    "Converter",
    "I3DConv",
    "LoadReport",
    "SliceConv",
    "SliceNetwork",
    "TSMConv",
    "TruncatedDenseNet3d",
    "__version__",
    "acs_conv",
    "adapt_input_channels",
    "adaptive_align",
    "align_shift",
    "convert_to_3d",
    "get_operator",
    "i3d_conv",
    "inflate_kernel",
    "load_2d_weights",
    "read_state_dict",
    "slice_conv2d",
    "temporal_shift",
]
