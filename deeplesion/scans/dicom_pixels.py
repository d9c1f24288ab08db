"""Pixels of DICOM slices to HU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.dicom_decoding import decode
from deeplesion.scans.dicom_headers import SliceHeader

#: HU of what is outside the field of view.
OUTSIDE_HU = -1024
#: Padding values that lie among these HU are tissue's, too: a mistake of the writer.
TISSUE_HU = (-200, 300)
#: Slope and intercept up to this keep 16-bit values within 32 bits.
_MAX_WHOLE = 1 << 14
_INT16 = np.iinfo(np.int16)


def stored_values(item: SliceHeader) -> NDArray[np.integer]:
    """Stored values of a slice before rescaling, padding included.

    Args:
        item: Which slice.

    Returns:
        ``(rows, columns)``, signed or not as stored.

    Raises:
        ScanError: The file is truncated, or nothing that is installed decodes it.
    """
    return _significant_bits(decode(item), item)


def read_hu(item: SliceHeader, out: NDArray[Any]) -> bool:
    """Read a slice in HU.

    Args:
        item: Which slice.
        out: ``(rows, columns)`` int16 or float32, to be filled.

    Returns:
        Whether there was padding that was left, because its value is among tissue's.

    Raises:
        ScanError: As :func:`stored_values`.
    """
    values = stored_values(item)
    hu: NDArray[Any]
    if is_whole(item):
        wide = np.int32 if values.itemsize <= 2 else np.int64
        hu = values.astype(wide) * int(item.slope) + int(item.intercept)
    else:
        hu = values * np.float32(item.slope) + np.float32(item.intercept)
    doubtful = False
    if item.padding is not None:
        first, last = (_as_stored(value, item) for value in item.padding)
        outside = (values >= min(first, last)) & (values <= max(first, last))
        padding_hu = first * item.slope + item.intercept
        doubtful = bool(TISSUE_HU[0] <= padding_hu <= TISSUE_HU[1] and outside.any())
        if not doubtful:
            hu[outside] = OUTSIDE_HU
    out[...] = np.clip(hu, _INT16.min, _INT16.max) if out.dtype == np.int16 else hu
    return doubtful


def is_whole(item: SliceHeader) -> bool:
    """Whether HU of a slice are whole numbers, as those of nearly all scanners are."""
    return all(
        float(value).is_integer() and abs(value) <= _MAX_WHOLE
        for value in (item.slope, item.intercept)
    )


def same_pixels(first: SliceHeader, second: SliceHeader) -> bool:
    """Whether two slices show the same, in HU."""
    if (first.slope, first.intercept) != (second.slope, second.intercept):
        return False
    return first.size == second.size and np.array_equal(stored_values(first), stored_values(second))


def _significant_bits(pixels: NDArray[Any], item: SliceHeader) -> NDArray[np.integer]:
    """Without what stands in bits that are not stored ones, such as overlays."""
    stored, high = item.bits
    allocated = pixels.dtype.itemsize * 8
    if not stored - 1 <= high < allocated or stored >= allocated:
        return pixels
    above = allocated - 1 - high
    # Shifted up to the top and down again, the sign comes along.
    return (pixels << above) >> (allocated - stored)


def _as_stored(value: int, item: SliceHeader) -> int:
    """A padding value as pixels have it, though its header takes it for (un)signed."""
    bits = item.bits[0] if -(1 << (item.bits[0] - 1)) <= value < (1 << item.bits[0]) else 16
    value &= (1 << bits) - 1
    return value - (1 << bits) if item.signed and value >> (bits - 1) else value
