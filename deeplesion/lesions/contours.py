"""Outlines of masks, to be drawn."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.lesions.lesion import SliceMask

_FINE = 8  # the mask is enlarged so much before its outline is taken
_TOLERANCE = 0.7  # px of the enlarged mask


def mask_contours(mask: SliceMask) -> list[NDArray[np.float64]]:
    """Closed outlines of a mask, those of its holes among them.

    Args:
        mask: In a slice.

    Returns:
        For each outline ``(n, 2)`` x, y in px of the slice, within a fifth px of where cubic
        interpolation of the mask is 1/2.
    """
    padded = np.pad(np.asarray(mask.pixels, np.float32), 1)
    size = (padded.shape[1] * _FINE, padded.shape[0] * _FINE)
    fine = cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC) > 0.5
    edges, _ = cv2.findContours(fine.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corner = np.array([mask.x, mask.y]) - 1
    return [
        (cv2.approxPolyDP(edge, _TOLERANCE, True)[:, 0] + 0.5) / _FINE - 0.5 + corner
        for edge in edges
    ]
