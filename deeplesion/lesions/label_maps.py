"""Lesions as a volume of their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.measuring import lesion_regions

_MOST = np.iinfo(np.uint16).max


def label_map(lesions: Sequence[Lesion], shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """Mark the voxels of lesions by their numbers.

    Marked is what was measured: the largest component of the mask in each slice in which a lesion
    has a box, or the ellipse in the box where there are no masks. Slices between, in which nothing
    was found or looked for, stay empty. Where lesions overlap, the lower number stays.

    Args:
        lesions: Their masks lie within the slices.
        shape: ``(D, H, W)`` of the scan.

    Returns:
        ``(D, H, W)``, 0 where there is no lesion.

    Raises:
        ValueError: If a lesion lies outside of the scan, or its number is not in 1 to 65535.
    """
    labels = np.zeros(shape, np.uint16)
    for lesion in sorted(lesions, key=lambda each: -each.number):
        if not 1 <= lesion.number <= _MOST:
            raise ValueError(
                f"numbers of lesions must be in 1 to {_MOST} for a label map, got {lesion.number}; "
                "raise score_threshold"
            )
        regions, _ = lesion_regions(lesion, shape)
        for z, region in zip(lesion.slices, regions, strict=True):
            if region is not None:
                height, width = region.pixels.shape
                crop = labels[z, region.y : region.y + height, region.x : region.x + width]
                crop[region.pixels] = lesion.number
    return labels
