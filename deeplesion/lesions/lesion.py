"""What was found: boxes and masks in slices, and the lesions that they make.

Coordinates are those of a scan's array, ``(D, H, W)``: x counts columns, y rows, z slices, and
the center of a voxel is at its index. A box x1, y1, x2, y2 spans from the center of its first to
the center of its last pixel, as DeepLesion's do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SliceMask(NamedTuple):
    """Pixels of a lesion in one slice.

    Attributes:
        x: Column of the crop's first pixel.
        y: Row of the crop's first pixel.
        pixels: ``(h, w)`` bool, the crop; it lies within the slice.
    """

    x: int
    y: int
    pixels: NDArray[np.bool_]


class SliceDetections(NamedTuple):
    """What the detector found in one key slice.

    Attributes:
        z: Index of the slice.
        boxes: ``(n, 4)`` x1, y1, x2, y2 in px.
        scores: ``(n,)`` in [0, 1].
        masks: One per box, or empty where the detector gives none.
    """

    z: int
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    masks: tuple[SliceMask, ...] = ()


@dataclass(frozen=True, eq=False)
class Lesion:
    """Boxes of neighboring slices that were linked to one lesion.

    Attributes:
        number: From 1, in descending order of score.
        score: In [0, 1], see :mod:`deeplesion.lesions.linking`.
        slices: ``(k,)`` indices of slices, ascending; gaps are allowed.
        boxes: ``(k, 4)`` x1, y1, x2, y2 in px, one per slice.
        scores: ``(k,)``.
        masks: One per slice, or empty where the detector gives none.
        key_slice: The slice that shows it best: that of the box with the highest score.
    """

    number: int
    score: float
    slices: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    masks: tuple[SliceMask, ...]
    key_slice: int

    @property
    def box_3d(self) -> tuple[float, float, float, float, float, float]:
        """x1, y1, z1, x2, y2, z2: the smallest box about all of its boxes."""
        low, high = self.boxes[:, :2].min(0), self.boxes[:, 2:].max(0)
        first, last = self.slices[[0, -1]]
        return (*low.tolist(), float(first), *high.tolist(), float(last))
