"""Outlines of masks."""

from __future__ import annotations

import cv2
import numpy as np

from deeplesion.lesions.contours import mask_contours
from deeplesion.lesions.lesion import SliceMask


def test_the_outline_of_a_rectangle_is_its_edge() -> None:
    (edge,) = mask_contours(SliceMask(10, 20, np.ones((4, 6), bool)))
    # Edges of pixels lie half a px beyond their centers.
    assert np.abs(edge.min(0) - [9.5, 19.5]).max() < 0.2
    assert np.abs(edge.max(0) - [15.5, 23.5]).max() < 0.2


def test_the_area_of_a_disk_is_that_of_its_pixels() -> None:
    y, x = np.mgrid[:31, :31]
    disk = np.hypot(x - 15, y - 15) <= 12
    (edge,) = mask_contours(SliceMask(0, 0, disk))
    assert abs(cv2.contourArea(edge.astype(np.float32)) / disk.sum() - 1) < 0.03
    assert len(edge) < 150


def test_holes_and_separate_parts_have_outlines() -> None:
    pixels = np.ones((9, 9), bool)
    pixels[3:6, 3:6] = False
    apart = np.zeros((9, 20), bool)
    apart[:, :9] = pixels
    apart[4, 15] = True
    assert len(mask_contours(SliceMask(0, 0, apart))) == 3
    single = min(mask_contours(SliceMask(0, 0, apart)), key=lambda edge: np.ptp(edge[:, 0]))
    assert np.abs(single.mean(0) - [15, 4]).max() < 0.1


def test_an_empty_mask_has_none() -> None:
    assert mask_contours(SliceMask(3, 3, np.zeros((4, 4), bool))) == []
    assert mask_contours(SliceMask(3, 3, np.zeros((0, 0), bool))) == []
