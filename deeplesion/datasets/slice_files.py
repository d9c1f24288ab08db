"""Files of slices: 16-bit gray PNG, ``HU = value - 32768``."""

from __future__ import annotations

import os

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.memory import empty_stack

HU_OFFSET = 32768

Volume = NDArray[np.float32]
Slice = NDArray[np.int16]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_HEADER_BYTES = 26
_PNG_TAIL_BYTES = 64  # some writers put a little behind the end


class SliceError(DataError):
    """A slice file that is missing or is not what it should be."""


def read_slice(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Volume:
    """Read one slice.

    Args:
        path: A 16-bit gray PNG.
        size: ``(height, width)`` in px that it must have; None takes any.

    Returns:
        ``(H, W)`` float32 in HU.

    Raises:
        SliceError: As :func:`read_hu`.
    """
    return read_hu(path, size).astype(np.float32)


def read_hu(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Slice:
    """Read one slice in whole HU, as it is stored.

    Args:
        path: A 16-bit gray PNG.
        size: ``(height, width)`` in px that it must have; None takes any.

    Returns:
        ``(H, W)`` int16 in HU.

    Raises:
        SliceError: If it is missing, cannot be decoded (truncated), is not 16-bit gray, or has
            another size.
    """
    try:
        with open(path, "rb", buffering=0) as stream:
            content = stream.read()
    except OSError as error:
        raise SliceError(_unreadable(path, error)) from None
    # First, for some builds of OpenCV decode what is there of a truncated file without a word.
    head, tail = content[:_PNG_HEADER_BYTES], content[-_PNG_TAIL_BYTES:]
    if (complaint := _inspect_ends(path, head, tail, size)) is not None:
        raise SliceError(complaint)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise SliceError(f"{path} is not a readable PNG: truncated or damaged")
    # Modulo 65,536, which the sign undoes; into memory that is used again, which OpenCV's is not.
    hu = empty_stack(image.shape, np.uint16)
    return np.subtract(image, np.uint16(HU_OFFSET), out=hu).view(np.int16)


def inspect_slice(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> str | None:
    """Say what is wrong with a slice file by its header and end, without decoding it.

    Args:
        path: A 16-bit gray PNG.
        size: ``(height, width)`` in px that it must have; None takes any.

    Returns:
        A complaint that names the file, or None.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(_PNG_HEADER_BYTES)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _PNG_TAIL_BYTES))
            tail = stream.read()
    except OSError as error:
        return _unreadable(path, error)
    return _inspect_ends(path, head, tail, size)


def _unreadable(path: str | os.PathLike[str], error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} is missing"
    return f"{path} cannot be read: {error.strerror}"


def _inspect_ends(
    path: str | os.PathLike[str], head: bytes, tail: bytes, size: tuple[int, int] | None
) -> str | None:
    """Complain of a file of which these are the first and last bytes."""
    if len(head) < _PNG_HEADER_BYTES or not head.startswith(_PNG_SIGNATURE):
        return f"{path} is not a PNG, or truncated in its header"
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if (head[24], head[25]) != (16, 0):
        kind = "gray" if head[25] == 0 else "not gray"
        return f"{path} must be a 16-bit gray PNG (HU + {HU_OFFSET}), got {head[24]} bit, {kind}"
    if (complaint := inspect_size(path, (height, width), size)) is not None:
        return complaint
    if _PNG_END not in tail:
        return f"{path} is truncated: it does not end as a PNG does"
    return None


def inspect_size(
    path: str | os.PathLike[str], found: tuple[int, int], size: tuple[int, int] | None
) -> str | None:
    """Say that a slice has another size than it must have, or None.

    Args:
        path: Named in the complaint.
        found: ``(height, width)`` in px.
        size: ``(height, width)`` in px that it must have; None takes any.
    """
    if size is None or found == tuple(size):
        return None
    return f"{path} must have {size[0]} x {size[1]} px (h x w), got {found[0]} x {found[1]}"
