"""GrabCut masks of single lesions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from deeplesion.datasets.masks import (
    encode_mask,
    grabcut_mask,
    lesion_mask,
    published_gray,
    recist_ellipse,
    seeds,
    surroundings,
    wrap_to_uint8,
)

SQUARE = (slice(50, 71), slice(40, 66))
BOX = (35.0, 45.0, 70.0, 75.0)
RECIST = np.array([[40, 60], [65, 60], [52, 50], [52, 70]], float)


def square_image() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.normal(90, 6, (128, 128))
    image[SQUARE] += 80
    return image.clip(0, 255).astype(np.uint8)


def square_truth() -> np.ndarray:
    truth = np.zeros((128, 128), np.uint8)
    truth[SQUARE] = 1
    return truth


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_seeds_hold_box_and_quadrilateral() -> None:
    labels = seeds((128, 128), BOX, RECIST)
    assert labels[45, 35] == labels[75, 70] == cv2.GC_PR_FGD
    assert labels[44, 35] == labels[75, 71] == cv2.GC_BGD
    assert labels[60, 40] == labels[50, 52] == labels[60, 52] == cv2.GC_FGD
    assert labels[51, 41] == cv2.GC_PR_FGD


def test_seeds_take_a_box_that_leaves_the_image() -> None:
    labels = seeds((20, 20), (-5.0, -5.0, 4.0, 40.0), [[0, 5], [2, 5], [1, 4], [1, 6]])
    assert (labels[:, :5] != cv2.GC_BGD).all()
    assert (labels[:, 5:] == cv2.GC_BGD).all()


def test_wrapping_goes_around_256_and_truncates_towards_0() -> None:
    values = [-50.0, -48.3, -1.0, -0.4, 0.0, 3.7, 205.0, 256.0]
    assert wrap_to_uint8(values).tolist() == [206, 208, 255, 0, 0, 3, 205, 0]


def test_the_published_image_shows_air_brightest() -> None:
    # 0 HU is 1024 / 3074 of the window: 84.9 of 255, 34 after the offset.
    assert published_gray([-3000, -1024, -1000, 0, 2050, 9000]).tolist() == [
        206,
        206,
        208,
        34,
        205,
        205,
    ]


def test_without_a_seed_random_numbers_go_on() -> None:
    """GrabCut takes what it needs from OpenCV's generator, which a seed starts anew."""
    image = square_image()
    grabcut_mask(image, BOX, RECIST, seed=3)
    going_on = cv2.randu(np.zeros((1, 4), np.float32), 0, 1)
    cv2.setRNGSeed(3)
    grabcut_mask(image, BOX, RECIST, seed=None)
    np.testing.assert_array_equal(cv2.randu(np.zeros((1, 4), np.float32), 0, 1), going_on)


def test_legacy_sees_the_whole_image_and_truncates_the_end_points() -> None:
    rng = np.random.default_rng(1)
    image, recist = square_image(), RECIST + 0.7
    image[:20] = rng.integers(0, 255, (20, 128))  # beyond the surroundings
    made = lesion_mask(image, BOX, recist, legacy=True)
    assert made.source == "grabcut"
    np.testing.assert_array_equal(made.mask, grabcut_mask(image, BOX, RECIST))


def test_legacy_keeps_a_mask_of_the_quadrilateral_alone() -> None:
    image = np.full((128, 128), 60, np.uint8)
    quadrilateral = seeds((128, 128), BOX, RECIST) == cv2.GC_FGD
    image[quadrilateral] = 220
    made = lesion_mask(image, BOX, RECIST, legacy=True)
    assert made.source == "grabcut"
    np.testing.assert_array_equal(made.mask, quadrilateral)


def test_legacy_without_background_takes_the_ellipse() -> None:
    made = lesion_mask(square_image(), (0.0, 0.0, 127.0, 127.0), RECIST, legacy=True)
    assert made.source == "ellipse"
    assert made.mask.any()


@pytest.mark.parametrize("function", ["whole", "surroundings"])
def test_square_lesion_is_found(function: str) -> None:
    if function == "whole":
        made = grabcut_mask(square_image(), BOX, RECIST)
    else:
        result = lesion_mask(square_image(), BOX, RECIST)
        assert result.source == "grabcut"
        made = result.mask
    assert iou(made, square_truth()) > 0.9


def test_mask_is_the_same_every_time_whatever_came_before() -> None:
    image = square_image()
    first = lesion_mask(image, BOX, RECIST).mask
    cv2.setRNGSeed(99)
    lesion_mask(image, (10.0, 10.0, 30.0, 30.0), RECIST - 30)
    np.testing.assert_array_equal(lesion_mask(image, BOX, RECIST).mask, first)


def test_mask_lies_in_the_box() -> None:
    rows, columns = np.nonzero(lesion_mask(square_image(), BOX, RECIST).mask)
    assert BOX[0] <= columns.min() <= columns.max() <= BOX[2]
    assert BOX[1] <= rows.min() <= rows.max() <= BOX[3]


def test_image_is_not_changed() -> None:
    image = square_image()
    before = image.copy()
    lesion_mask(image, BOX, RECIST)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)], ids=["color", "float"]
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image_u8 must be \(H, W\) uint8, got \(8, 8"):
        grabcut_mask(image, BOX, RECIST)


def test_no_background_falls_back_to_the_ellipse() -> None:
    whole = (0.0, 0.0, 127.0, 127.0)
    assert grabcut_mask(square_image(), whole, RECIST).sum() == 0
    result = lesion_mask(square_image(), whole, RECIST)
    assert result.source == "ellipse"
    np.testing.assert_array_equal(result.mask, recist_ellipse((128, 128), RECIST))


def test_nothing_beyond_the_seed_falls_back_to_the_ellipse() -> None:
    """All but the quadrilateral looks like background: GrabCut gives back what it was given."""
    image = np.full((128, 128), 60, np.uint8)
    quadrilateral = seeds((128, 128), BOX, RECIST) == cv2.GC_FGD
    image[quadrilateral] = 220
    result = lesion_mask(image, BOX, RECIST)
    assert result.source == "ellipse"
    assert result.mask.sum() > quadrilateral.sum()


def test_ellipse_has_the_recist_diameters() -> None:
    points = np.array([[20, 60], [100, 60], [60, 40], [60, 80]], float)
    mask = recist_ellipse((128, 128), points)
    assert mask.sum() == pytest.approx(np.pi * 40 * 20, rel=0.01)
    assert mask[60, 20] == mask[60, 100] == mask[40, 60] == mask[80, 60] == 1
    assert mask[60, 19] == mask[39, 60] == 0


def test_ellipse_turns_with_the_long_axis() -> None:
    points = np.array([[40, 40], [80, 80], [65, 55], [55, 65]], float)
    mask = recist_ellipse((128, 128), points)
    assert mask[75, 75] == 1
    assert mask[75, 45] == 0
    np.testing.assert_array_equal(mask, mask.T)


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-5, 40), st.floats(-5, 40)), min_size=4, max_size=4),
)
def test_ellipse_is_never_empty(points: list[tuple[float, float]]) -> None:
    mask = recist_ellipse((32, 36), points)
    assert mask.shape == (32, 36)
    assert mask.any()


@settings(max_examples=100, deadline=None)
@given(x=st.floats(0, 99), y=st.floats(0, 79), w=st.floats(1, 100), h=st.floats(1, 80))
def test_surroundings_hold_the_box_and_stay_in_the_image(
    x: float, y: float, w: float, h: float
) -> None:
    rows, columns = surroundings((80, 100), (x, y, x + w, y + h))
    assert 0 <= rows.start <= y
    assert min(80, y + h) <= rows.stop <= 80
    assert 0 <= columns.start <= x
    assert min(100, x + w) <= columns.stop <= 100


def test_encoded_mask_is_plain_and_comes_back() -> None:
    encoded = encode_mask(square_truth())
    assert encoded["size"] == [128, 128]
    assert isinstance(encoded["counts"], str)
    np.testing.assert_array_equal(coco_mask.decode(encoded), square_truth())
