"""The official FROC of DeepLesion as one writes it first: a loop over boxes.

The baseline of `benchmarks/froc.py`, and what our vectorized FROC must equal. No check of what it
is given; the protocol is told in `deeplesion/evaluation/froc.py`. The overlaps of a box with the
lesions of its image are computed in numpy, as the published scorers do, or in plain numbers, which
for an image's one or two lesions is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np


def ious_of_arrays(box: np.ndarray, lesions: np.ndarray) -> np.ndarray:
    """IoU of a box x1, y1, x2, y2 with ``(m, 4)`` lesions, widths counted as x2 - x1 + 1."""
    width = np.minimum(box[2], lesions[:, 2]) - np.maximum(box[0], lesions[:, 0]) + 1
    height = np.minimum(box[3], lesions[:, 3]) - np.maximum(box[1], lesions[:, 1]) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_of_box = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    area_of_lesions = (lesions[:, 2] - lesions[:, 0] + 1) * (lesions[:, 3] - lesions[:, 1] + 1)
    ious: np.ndarray = shared / (area_of_box + area_of_lesions - shared)
    return ious


def ious_of_numbers(box: Sequence[float], lesions: Sequence[Sequence[float]]) -> list[float]:
    """The same of lists of numbers."""
    return [_iou(box, lesion) for lesion in lesions]


def _iou(box: Sequence[float], lesion: Sequence[float]) -> float:
    width = min(box[2], lesion[2]) - max(box[0], lesion[0]) + 1
    height = min(box[3], lesion[3]) - max(box[1], lesion[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    area_of_box = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    area_of_lesion = (lesion[2] - lesion[0] + 1) * (lesion[3] - lesion[1] + 1)
    return shared / (area_of_box + area_of_lesion - shared)


def froc_curve(
    detections: Sequence[Any],
    ground_truths: Sequence[Any],
    iou_threshold: float = 0.5,
    ious_of: Callable[[Any, Any], Iterable[float]] = ious_of_arrays,
) -> tuple[list[float], list[float]]:
    """Sensitivity and false positives per image after each box, by descending score.

    Args:
        detections: For each image rows of x1, y1, x2, y2 in px and score.
        ground_truths: For each image rows of x1, y1, x2, y2 of its lesions, one in all at least.
        iou_threshold: Least IoU at which a box reaches a lesion.
        ious_of: :func:`ious_of_arrays` for arrays, :func:`ious_of_numbers` for lists of lists.

    Returns:
        Two lists, an entry for each box.
    """
    boxes = [(box, image) for image, found in enumerate(detections) for box in found]
    boxes.sort(key=lambda entry: entry[0][4])
    hit = [[False] * len(there) for there in ground_truths]
    lesions, hits, false_positives = sum(map(len, ground_truths)), 0, 0
    sensitivity, fps_per_image = [], []
    for box, image in reversed(boxes):
        reaches_one = False
        for number, overlap in enumerate(ious_of(box, ground_truths[image])):
            if overlap >= iou_threshold:
                reaches_one = True
                if not hit[image][number]:
                    hit[image][number] = True
                    hits += 1
        if not reaches_one:
            false_positives += 1
        sensitivity.append(hits / lesions)
        fps_per_image.append(false_positives / len(detections))
    return sensitivity, fps_per_image


def sensitivity_at(
    sensitivity: Sequence[float], fps_per_image: Sequence[float], fps: Sequence[float]
) -> list[float]:
    """Sensitivity at numbers of false positives per image, by linear interpolation.

    Args:
        sensitivity: Of :func:`froc_curve`.
        fps_per_image: Of :func:`froc_curve`.
        fps: Where it is wanted.

    Returns:
        An entry for each: 0 before the curve's start, its last value beyond its end.
    """
    found = []
    for wanted in fps:
        before = -1
        while before + 1 < len(fps_per_image) and fps_per_image[before + 1] <= wanted:
            before += 1
        if before < 0:
            found.append(0.0)
        elif before + 1 == len(fps_per_image):
            found.append(sensitivity[before])
        else:
            x, y = fps_per_image[before], sensitivity[before]
            share = (wanted - x) / (fps_per_image[before + 1] - x)
            found.append(y + share * (sensitivity[before + 1] - y))
    return found
