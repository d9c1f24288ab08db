"""Slices as text in a page: HU that can be windowed anew, decoded one slice at a time.

A slice is coded as follows; ``page/volume.js`` undoes it.

1. HU are divided by a step and rounded: exact for step 1, else within half a step.
2. What the median of left, upper and left + upper - upper left neighbor (the predictor of lossless
   JPEG, LOCO-I) gets wrong is kept, modulo 2^16, as 2 * e for e >= 0 and -2 * e - 1 below.
3. The low bytes of all pixels are followed by their high bytes, which are mostly 0.
4. zlib, which browsers undo by ``DecompressionStream``, then base64.

PNG would be larger by a third, and pixels read back from a canvas are not exact everywhere:
browsers add noise to them against fingerprinting.
"""

from __future__ import annotations

import base64
import zlib
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.scan import Scan

#: Tried in this order, all steps in HU at full size first, then at half of it and so on.
STEPS = (1, 2, 4)
SHRINKS = (1, 2, 4, 8)
#: Slices that are coded to estimate how large a page becomes.
PROBES = 9
_LEVEL = 6
_MEMORY_LEVEL = 9
_MEGA = 1e6


class PixelFormat(NamedTuple):
    """How exact a page shows a scan.

    Attributes:
        step: HU are rounded to multiples of it.
        shrink: Squares of so many voxels' sides are averaged to one pixel.
    """

    step: int = 1
    shrink: int = 1


def encode_slice(hu: NDArray[np.generic], pixels: PixelFormat) -> str:
    """Code a slice.

    Args:
        hu: ``(H, W)`` in HU.
        pixels: How exact.

    Returns:
        base64 of ``ceil(H / shrink) * ceil(W / shrink)`` pixels.

    Raises:
        ValueError: If a voxel is not finite.
    """
    array = np.asarray(hu)
    if not np.isfinite(array).all():
        raise ValueError("hu must be finite, got NaN or infinity; read the scan without them")
    shrunk = _shrink(array, pixels.shrink).astype(np.float32)
    levels = np.clip(np.rint(shrunk / pixels.step), -32768, 32767).astype(np.int32)
    error = (levels - _predicted(levels)).astype(np.int16).astype(np.int32)
    folded = ((error << 1) ^ (error >> 15)).astype(np.uint16)
    low, high = (folded & 255).astype(np.uint8), (folded >> 8).astype(np.uint8)
    # Noise repeats itself by chance alone: runs are worth looking for, longer repeats are not.
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, zlib.Z_RLE)
    packed = packer.compress(low.tobytes()) + packer.compress(high.tobytes()) + packer.flush()
    return base64.b64encode(packed).decode("ascii")


def choose_format(
    scan: Scan, max_megabytes: float, hu_step: int | None = None, max_side: int | None = None
) -> PixelFormat:
    """The most exact format in which a scan fits into a page of some size.

    The size is estimated from a few slices. If nothing fits, it is the smallest format.

    Args:
        scan: The scan.
        max_megabytes: Of all its slices, in 10^6 bytes.
        hu_step: HU are rounded to multiples of it; None: the least of 1, 2, 4 that fits.
        max_side: Slices of a longer side in px are shrunk by a whole number; None: only where it
            is needed to fit.

    Raises:
        ValueError: If an argument is not positive.
    """
    given = {"max_megabytes": max_megabytes, "hu_step": hu_step, "max_side": max_side}
    for name, value in given.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}")
    side = max(scan.hu.shape[1:])
    shrinks = [-(-side // max_side)] if max_side else SHRINKS
    steps = [hu_step] if hu_step else STEPS
    candidates = [PixelFormat(step, shrink) for shrink in shrinks for step in steps]
    for pixels in candidates[:-1]:
        if estimated_bytes(scan, pixels) <= max_megabytes * _MEGA:
            return pixels
    return candidates[-1]


def estimated_bytes(scan: Scan, pixels: PixelFormat) -> float:
    """About how many bytes the slices of a scan take in a page."""
    depth = len(scan.hu)
    probes = np.unique(np.linspace(0, depth - 1, min(PROBES, depth)).round().astype(int))
    return depth * float(np.mean([len(encode_slice(scan.hu[z], pixels)) for z in probes]))


def _shrink(hu: NDArray[np.generic], factor: int) -> NDArray[np.generic]:
    """Means of squares; those that reach beyond the slice go on with its last voxels."""
    if factor == 1:
        return hu
    below, beside = (-length % factor for length in hu.shape)
    padded = np.pad(hu.astype(np.float32), ((0, below), (0, beside)), mode="edge")
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return cv2.resize(padded, size, interpolation=cv2.INTER_AREA)


def _predicted(levels: NDArray[np.int32]) -> NDArray[np.int32]:
    """What a decoder expects of each pixel when it knows those to the left and above."""
    left, up = np.zeros_like(levels), np.zeros_like(levels)
    left[:, 1:], up[1:] = levels[:, :-1], levels[:-1]
    expected = left + up
    expected[1:, 1:] -= levels[:-1, :-1]
    # In the first row only the left neighbor exists, in the first column only the upper one.
    least, most = np.minimum(left, up), np.maximum(left, up)
    inner = np.clip(expected, least, most)
    inner[0], inner[:, 0] = left[0], up[:, 0]
    return inner
