"""Targets and pasting in whole pixels."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.models.legacy.masks import crop_mask_targets, paste_masks, whole_pixels


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2.9, 3.1, 5.2, 8.9), (2, 3, 4, 6)),
        ((4.0, 4.0, 4.0, 4.0), (4, 4, 1, 1)),
        ((4.0, 4.0, 2.0, 1.0), (4, 4, 1, 1)),
    ],
)
def test_whole_pixels(box: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert whole_pixels(box) == expected


def test_targets_of_float_masks_have_soft_edges() -> None:
    mask = np.zeros((1, 8, 8), np.float32)
    mask[:, :, 4:] = 1
    box = np.array([[3.7, 2.2, 4.9, 3.8]])  # columns 3 and 4
    soft = crop_mask_targets(mask, box, (2, 4))
    np.testing.assert_allclose(soft, [[[0, 0.25, 0.75, 1]] * 2])
    hard = crop_mask_targets(mask.astype(np.uint8), box, (2, 4))
    np.testing.assert_array_equal(hard, [[[0, 0, 1, 1]] * 2])
    assert hard.dtype == np.float32


def test_boxes_of_targets_are_clipped_to_the_image() -> None:
    mask = np.arange(16, dtype=np.float32).reshape(1, 4, 4) / 15
    target = crop_mask_targets(mask, np.array([[-3.0, -1.0, 9.0, 9.0]]), (4, 4))
    np.testing.assert_array_equal(target, mask)


def test_no_targets() -> None:
    empty = crop_mask_targets(np.zeros((0, 8, 8), np.uint8), np.zeros((0, 4)), (28, 14))
    assert empty.shape == (0, 28, 14)


def test_pasting_hand_computed() -> None:
    probabilities = np.array([[[0.2, 0.8], [0.2, 0.8]]], np.float32)
    # Columns 1 to 4: 0.2, 0.35, 0.65, 0.8.
    pasted = paste_masks(probabilities, np.array([[1.9, 2.0, 4.2, 3.9]]), (5, 6), 0.5)
    expected = np.zeros((1, 5, 6), bool)
    expected[0, 2:4, 3:5] = True
    np.testing.assert_array_equal(pasted, expected)


def test_a_probability_at_the_threshold_is_outside() -> None:
    half = np.full((1, 2, 2), 0.5, np.float32)
    assert not paste_masks(half, np.array([[0.0, 0.0, 3.0, 3.0]]), (4, 4), 0.5).any()


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((2.0, 1.0, 9.0, 2.0), slice(1, 3), slice(2, 4)),
        ((-3.0, -1.0, 1.0, 0.0), slice(0, 1), slice(0, 2)),
        ((-9.0, 0.0, -5.0, 3.0), slice(0), slice(0)),
        ((7.0, 0.0, 9.0, 3.0), slice(0), slice(0)),
    ],
)
def test_what_lies_outside_is_left_out(box: tuple[float, ...], rows: slice, columns: slice) -> None:
    pasted = paste_masks(np.ones((1, 2, 2), np.float32), np.array([box]), (4, 4), 0.5)
    expected = np.zeros((1, 4, 4), bool)
    expected[0, rows, columns] = True
    np.testing.assert_array_equal(pasted, expected)
