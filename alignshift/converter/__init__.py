"""From any 2D network to one that reads stacks of slices and knows how thick they are."""

from __future__ import annotations

from .convert import convert_to_3d
from .legacy import Converter
from .network import SliceNetwork
from .report import ConversionReport

__all__ = ["ConversionReport", "Converter", "SliceNetwork", "convert_to_3d"]
