"""RGB pictures: side by side on a sheet, and into a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import ceil

import cv2
import numpy as np

from deeplesion.canvas import Image
from deeplesion.io import atomic_write


def montage(images: Sequence[Image], columns: int, gap: int = 8, background: int = 255) -> Image:
    """Put pictures side by side in rows, each in the middle of a cell of the largest's size.

    Args:
        images: ``(H, W, 3)`` each, sizes may differ.
        columns: Pictures in a row.
        gap: px between cells.
        background: Gray of gaps and of what pictures leave free.

    Returns:
        ``(H', W', 3)`` uint8.

    Raises:
        ValueError: If there are no images, or ``columns`` is < 1.
    """
    if not images:
        raise ValueError("images must hold at least one picture, got none")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    columns = min(columns, len(images))
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    rows = ceil(len(images) / columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(shape, background, np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top = row * (height + gap) + (height - image.shape[0]) // 2
        left = column * (width + gap) + (width - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def save_image(path: str | os.PathLike[str], image: Image) -> None:
    """Write an RGB picture ``(H, W, 3)``; the suffix of the path chooses the format.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(f"cannot write {path}")
