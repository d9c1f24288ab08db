"""The textbook way from files to a training sample, which the library is measured against.

Each step is written as loaders of this family of networks (MULAN's `load_ct_img.py` and what
AlignShift and A3D made of it, with albumentations for the augmentation) do it, plainly and in
numpy's default precision. It shares no code with the library, and gives the same samples:

- `load_stack`: every neighbor is decoded by itself, from the two stored slices about it where it
  lies between two, and interpolated in float64 (`load_multislice_16bit_png`);
- `window`: shift, divide, clip by masks and multiply in float64 (`windowing`, and the mean);
- `affine`: one affine for shift, scale and rotation, as albumentations' `ShiftScaleRotate`, slice
  by slice; corners of boxes one by one; masks by nearest neighbor;
- `resize`, `flip` and `pack`: one pass over slices, boxes and masks each.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

Image = NDArray[Any]

HU_OFFSET = 32768
WINDOW = (-1024.0, 2050.0)
MEAN = 50.0
FILL = -50.0
TARGET_MM = 2.0
SHIFT, SCALE, ROTATE, AFFINE_PROBABILITY = 0.04, 0.2, 15.0, 0.8
FLIP_PROBABILITY = 0.5
MIN_VISIBLE, MIN_SIDE = 0.1, 1.0


class Sample(NamedTuple):
    """What a network is trained with.

    Attributes:
        inputs: ``(D, H, W)`` float32.
        boxes: ``(N, 4)`` float32, x1, y1, x2, y2 in px.
        masks: ``(N, H, W)`` uint8.
    """

    inputs: Tensor
    boxes: Tensor
    masks: NDArray[np.uint8]


def read_slice(image_root: str, series: str, number: int) -> Image:
    """A slice in HU, ``(H, W)`` int32."""
    path = os.path.join(image_root, series, f"{number:03d}.png")
    image = cv2.imread(path, -1)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or no image")
    return image.astype(np.int32) - HU_OFFSET


def load_stack(info: Mapping[str, Any], num_slices: int) -> Image:
    """The key slice and its neighbors, ``(H, W, D)`` float64 in HU."""
    interval = info["slice_interval"]
    step = TARGET_MM / interval if interval < TARGET_MM else 1.0

    def at(position: float) -> Image:
        return read_slice(info["image_root"], info["series"], info["key_slice"] + int(position))

    planes = []
    for number in range(-(num_slices // 2), num_slices // 2 + 1):
        position = number * step
        above, below = math.floor(position), math.ceil(position)
        if above == below:
            planes.append(at(position).astype(np.float64))
        else:
            weight = position - above
            planes.append((1 - weight) * at(above) + weight * at(below))
    return np.stack(planes, axis=-1)


def window(stack: Image) -> Image:
    """HU to -50..205, float64."""
    low, high = WINDOW
    image = stack.astype(float)
    image -= low
    image /= high - low
    image[image > 1] = 1
    image[image < 0] = 0
    image *= 255
    return image - MEAN


def decode_masks(info: Mapping[str, Any]) -> list[Image]:
    """Masks ``(H, W)`` uint8 of a sample."""
    return [coco_mask.decode(lesion["mask"]) for lesion in info["instances"]]


def draw_matrix(size: tuple[int, int]) -> Image | None:
    """A random affine ``(2, 3)``, or None where there is to be none."""
    if np.random.rand() >= AFFINE_PROBABILITY:
        return None
    shift_x, shift_y, scale, angle = np.random.uniform(-1, 1, 4)
    height, width = size
    center = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(center, angle * ROTATE, 1 + scale * SCALE)
    matrix[0, 2] += shift_x * SHIFT * width
    matrix[1, 2] += shift_y * SHIFT * height
    return matrix


def warp(stack: Image, matrix: Image) -> Image:
    """Move all slices."""
    size = (stack.shape[1], stack.shape[0])
    planes = [
        cv2.warpAffine(np.ascontiguousarray(stack[..., index]), matrix, size, borderValue=FILL)
        for index in range(stack.shape[-1])
    ]
    return np.stack(planes, axis=-1)


def warp_masks(masks: Sequence[Image], matrix: Image) -> list[Image]:
    """Move masks."""
    return [
        cv2.warpAffine(mask, matrix, (mask.shape[1], mask.shape[0]), flags=cv2.INTER_NEAREST)
        for mask in masks
    ]


def warp_boxes(boxes: Sequence[Sequence[float]], matrix: Image) -> list[list[float]]:
    """Hulls of the moved corners of boxes, not clipped."""
    moved = []
    for x1, y1, x2, y2 in boxes:
        corners = [matrix @ np.array([x, y, 1.0]) for x in (x1, x2) for y in (y1, y2)]
        xs, ys = [corner[0] for corner in corners], [corner[1] for corner in corners]
        moved.append([min(xs), min(ys), max(xs), max(ys)])
    return moved


def clip_box(box: Sequence[float], size: tuple[int, int]) -> list[float] | None:
    """A box within the image; None where too little of it is left."""
    height, width = size
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], width - 1.0), min(box[3], height - 1.0)
    if x2 - x1 < MIN_SIDE or y2 - y1 < MIN_SIDE:
        return None
    visible = (x2 - x1) * (y2 - y1) / ((box[2] - box[0]) * (box[3] - box[1]))
    return [x1, y1, x2, y2] if visible >= MIN_VISIBLE else None


def training_sample(info: Mapping[str, Any], num_slices: int, side: int) -> Sample:
    """Load and augment a sample, drawing the numbers that the library's pipeline draws.

    Args:
        info: A data info of ``DeepLesionDataset``, with masks.
        num_slices: Depth of the stack.
        side: Longer side of the result in px.
    """
    image, masks = window(load_stack(info, num_slices)), decode_masks(info)
    boxes = [list(lesion["bbox"]) for lesion in info["instances"]]
    size = (image.shape[0], image.shape[1])
    matrix = draw_matrix(size)
    if matrix is not None:
        image, masks = warp(image, matrix), warp_masks(masks, matrix)
        clipped = [clip_box(box, size) for box in warp_boxes(boxes, matrix)]
        kept = [index for index, box in enumerate(clipped) if box is not None]
        boxes = [box for box in clipped if box is not None]
        masks = [masks[index] for index in kept]
    factor = side / max(size)
    width, height = int(size[1] * factor + 0.5), int(size[0] * factor + 0.5)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    masks = [cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) for mask in masks]
    boxes = [[value * factor for value in box] for box in boxes]
    if np.random.choice([True, False], p=[FLIP_PROBABILITY, 1 - FLIP_PROBABILITY]):
        image = np.flip(image, axis=1)
        masks = [np.flip(mask, axis=1) for mask in masks]
        boxes = [[width - 1 - x2, y1, width - 1 - x1, y2] for x1, y1, x2, y2 in boxes]
    inputs = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
    stacked = np.stack(masks) if masks else np.zeros((0, height, width), np.uint8)
    return Sample(
        torch.from_numpy(inputs), torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), stacked
    )
