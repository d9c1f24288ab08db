"""Windows of CT for viewing, and the one in which a lesion is best seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplesion.lesions.lesion import Lesion
from deeplesion.scans.scan import Scan

#: Level (center) and width in HU.
WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-600, 1500),
    "soft tissue": (40, 400),
    "liver": (60, 160),
    "bone": (400, 1800),
    "brain": (40, 80),
}
LUNG, SOFT_TISSUE, BONE = "lung", "soft tissue", "bone"
# Aerated lung; what is outside of the body is nearer to -1000.
_LUNG_HU = (-950.0, -500.0)
_BONE_HU = 250.0
_PART = 0.25


def window_range(name: str) -> tuple[float, float]:
    """Lower and upper end in HU of one of :data:`WINDOWS`."""
    level, width = WINDOWS[name]
    return level - width / 2, level + width / 2


def window_of(scan: Scan, lesion: Lesion) -> str:
    """In which of :data:`WINDOWS` a lesion and what is around it can be seen.

    Of the voxels in its key slice in its box, which is enlarged twofold: a quarter of aerated lung
    makes it lung, a quarter of bone bone; all others are soft tissue.

    Args:
        scan: The scan.
        lesion: One of its lesions.
    """
    near = surroundings(scan, lesion)
    if ((near > _LUNG_HU[0]) & (near < _LUNG_HU[1])).mean() > _PART:
        return LUNG
    return BONE if (near > _BONE_HU).mean() > _PART else SOFT_TISSUE


def surroundings(scan: Scan, lesion: Lesion) -> NDArray[np.float32]:
    """HU ``(h, w)`` of the key slice in a box of twice the lesion's width and height.

    Raises:
        ValueError: If the box is not in the slice at all.
    """
    x1, y1, x2, y2 = lesion.boxes[lesion.slices == lesion.key_slice][0]
    width, height = x2 - x1 + 1, y2 - y1 + 1
    rows = slice(max(round(y1 - height / 2), 0), max(round(y2 + height / 2) + 1, 0))
    columns = slice(max(round(x1 - width / 2), 0), max(round(x2 + width / 2) + 1, 0))
    near = scan.hu[lesion.key_slice, rows, columns]
    if not near.size:
        raise ValueError(
            f"lesion {lesion.number} must lie in its slice, got the box "
            f"{[x1, y1, x2, y2]} in {scan.hu.shape[2]} x {scan.hu.shape[1]} px"
        )
    return near.astype(np.float32)
