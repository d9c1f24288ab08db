"""Lossless coding of CT slices: row differences, split into bytes, and zstd.

A slice is noise around smooth tissue, so that a pixel differs little from the one above it: all but
few differences fit a byte. They are taken modulo 65,536 (so every 16-bit value survives), shifted
by :data:`BIAS` to make the upper byte 0 where they are small, and stored as a plane of lower and a
plane of upper bytes, which zstd (RFC 8878) codes apart, with a checksum of what it coded.

Several slices are decoded side by side, in rows of ``N * W`` pixels: adding up 512 rows costs the
interpreter as much for 13 slices as for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import zstandard

from deeplesion.datasets.memory import empty_stack
from deeplesion.datasets.slice_files import Slice

#: Added to differences, so that -128 to 127 have the upper byte 0.
BIAS = 128
#: Higher levels of zstd take longer and gain less than 1 % here.
LEVEL = 8
#: Bytes of the shortest repetition that is coded as one. Shorter ones, which noise is full of, are
#: more work to put together than their bytes are to decode.
MIN_MATCH = 7
_BYTES_PER_PIXEL = 2


class CodecError(ValueError):
    """Bytes that are not a slice, or not the one that was coded.

    Attributes:
        index: Which of the frames it is.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


def encode_slice(hu: Slice) -> bytes:
    """Code a slice.

    Args:
        hu: ``(H, W)`` int16.

    Returns:
        One zstd frame with its content size and checksum.
    """
    pixels = np.ascontiguousarray(hu).view(np.uint16)
    codes = pixels.copy()
    codes[1:] -= pixels[:-1]
    codes += np.uint16(BIAS)
    planes = codes.view(np.uint8).reshape(*hu.shape, _BYTES_PER_PIXEL).transpose(2, 0, 1)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, source_size=planes.size, min_match=MIN_MATCH, write_checksum=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(planes.tobytes())


def decode_slices(frames: Sequence[bytes], size: tuple[int, int]) -> Slice:
    """Decode slices of one size.

    Args:
        frames: N frames of :func:`encode_slice`.
        size: ``(height, width)`` in px.

    Returns:
        ``(H, N, W)`` int16: row by row, the slices side by side.

    Raises:
        CodecError: If a frame is damaged or of another size.
    """
    height, width = size
    rows = empty_stack((height, len(frames), width), np.uint16)
    targets = rows.view(np.uint8).reshape(*rows.shape, _BYTES_PER_PIXEL)
    decompressor = zstandard.ZstdDecompressor()
    for index, frame in enumerate(frames):
        try:
            content = decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CodecError(str(error), index) from None
        if len(content) != height * width * _BYTES_PER_PIXEL:
            raise CodecError(f"it does not hold {height} x {width} px", index)
        planes = np.frombuffer(content, np.uint8).reshape(_BYTES_PER_PIXEL, height, width)
        # OpenCV interleaves many times faster than numpy, and writes in place.
        cv2.merge(list(planes), dst=targets[:, index])
    rows -= np.uint16(BIAS)
    for above, row in pairwise(rows):
        np.add(row, above, row)  # by place: naming `out` takes a fifth longer, and these are many
    return rows.view(np.int16)
