"""What is wrong with a scan, in words for the one who gave it."""

from __future__ import annotations

from deeplesion.datasets.lesion_record import DataError


class ScanError(DataError):
    """A scan that cannot be read, or is not what it should be."""
