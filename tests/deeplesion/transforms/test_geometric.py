"""Tests of the transforms that move slices, boxes and masks."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mmdet")

from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks

import deeplesion  # noqa: F401
from deeplesion.transforms.geometric import (
    PadCT,
    RandomCTAffine,
    RandomCTFlip,
    affine_matrix,
    clip_boxes,
    warp_boxes,
    warp_masks,
    warp_slices,
)
from deeplesion.transforms.planes import as_stack
from deeplesion.transforms.resizing import ResizeCT

FILL = -50.0


def sample(depth: int, boxes: list[list[int]], size: tuple[int, int] = (80, 100)) -> dict:
    """A stack of zeros with each box bright in all slices, and its masks."""
    masks = np.zeros((len(boxes), *size), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    bright = masks.max(axis=0, initial=0) * 100.0
    return {
        "img": np.repeat(bright[..., None], depth, axis=-1).astype(np.float32),
        "img_shape": size,
        "gt_bboxes": HorizontalBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        "gt_bboxes_labels": np.arange(len(boxes)),
        "gt_ignore_flags": np.zeros(len(boxes), bool),
        "gt_masks": BitmapMasks(masks, *size),
    }


def test_identity() -> None:
    matrix = affine_matrix((5, 7), (0, 0), 1, 0)
    assert matrix == pytest.approx(np.eye(3)[:2])


def test_quarter_turn_about_the_center_of_pixels() -> None:
    volume = np.arange(25, dtype=np.float32).reshape(5, 5, 1)
    matrix = affine_matrix((5, 5), (0, 0), 1, 90)
    assert np.allclose(warp_slices(volume, matrix, 0)[..., 0], np.rot90(volume[..., 0]), atol=1e-3)


def test_shift_is_a_fraction_of_each_side() -> None:
    matrix = affine_matrix((100, 50), (0.1, -0.2), 1, 0)
    assert matrix @ [0, 0, 1] == pytest.approx([5, -20])
    assert warp_boxes(np.array([[1, 30, 3, 40]], np.float32), matrix).tolist() == [[6, 10, 8, 20]]


def test_hull_of_a_rotated_box() -> None:
    matrix = affine_matrix((101, 101), (0, 0), 2, 45)
    box = np.array([[45, 45, 55, 55]], np.float32)
    half = 10 * math.sqrt(2)
    assert warp_boxes(box, matrix)[0] == pytest.approx([50 - half] * 2 + [50 + half] * 2, abs=1e-4)


@pytest.mark.parametrize("depth", [1, 3, 4, 5, 7, 9])
def test_slices_move_alike_at_any_depth(depth: int) -> None:
    volume = np.random.default_rng(0).normal(size=(30, 40, depth)).astype(np.float32)
    matrix = affine_matrix((30, 40), (0.2, -0.1), 1.1, 10)
    together = warp_slices(volume, matrix, FILL)
    assert together.shape == volume.shape
    assert (together[-1, 0] == FILL).all()
    for index in range(depth):
        alone = warp_slices(volume[..., index], matrix, FILL)
        assert np.array_equal(together[..., index], alone)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    st.floats(0.7, 1.4),
    st.floats(-45, 45),
    st.tuples(st.integers(35, 45), st.integers(30, 35), st.integers(6, 20), st.integers(6, 20)),
)
def test_box_and_mask_enclose_what_they_enclosed(
    shift: tuple[float, float], scale: float, angle: float, where: tuple[int, int, int, int]
) -> None:
    x, y, width, height = where
    data = sample(3, [[x, y, x + width, y + height]])
    matrix = affine_matrix((80, 100), shift, scale, angle)
    image = warp_slices(data["img"], matrix, 0)
    mask = warp_masks(data["gt_masks"].masks, matrix)[0]
    x1, y1, x2, y2 = warp_boxes(data["gt_bboxes"].numpy(), matrix)[0]
    rows, columns = np.nonzero(image[..., 0] > 50)
    # Half a pixel of the square itself, magnified, lies beyond the centers of its border pixels.
    margin = 0.5 * scale * math.sqrt(2) + 0.5
    assert x1 - margin <= columns.min() <= columns.max() <= x2 + margin
    assert y1 - margin <= rows.min() <= rows.max() <= y2 + margin
    # Nearest and linear interpolation may differ at the rim alone, where all of a pixel's four
    # sources are bright, or one; 20 leaves room for OpenCV's fixed-point weights.
    assert (mask[image[..., 1] > 99] == 1).all()
    assert (image[..., 1][mask == 1] > 20).all()


def test_clipping_and_dropping() -> None:
    boxes = [[-10, 10, 10, 20], [-10, 10, 1, 20], [90, 70, 99.5, 90], [120, 0, 130, 9]]
    clipped, kept = clip_boxes(np.array(boxes, np.float32), (80, 100), min_visible=0.3)
    assert clipped.tolist() == [
        [0, 10, 10, 20],
        [0, 10, 1, 20],
        [90, 70, 99, 79],
        [99, 0, 99, 9],
    ]
    assert kept.tolist() == [True, False, True, False]


def test_a_box_that_leaves_takes_its_label_and_mask_along() -> None:
    data = sample(3, [[0, 30, 6, 40], [50, 30, 60, 40], [1, 31, 5, 39]])
    transform = RandomCTAffine(0, 0, 0, prob=1.0, fill_value=7.0)
    transform._draw = lambda: ((-0.2, 0.0), 1.0, 0.0)
    results = transform(data)
    assert results["gt_bboxes"].tensor.tolist() == [[30, 30, 40, 40]]
    assert results["gt_bboxes_labels"].tolist() == [1]
    assert results["gt_ignore_flags"].shape == (1,)
    assert results["gt_masks"].masks.shape == (1, 80, 100)
    assert np.array_equal(results["gt_masks"].masks[0] == 1, results["img"][..., 2] == 100)
    assert (results["img"][:, -20:] == 7).all()


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_no_lesions_and_two_dimensional_stacks(depth: int) -> None:
    data = sample(depth, [])
    if depth == 1:  # what mmcv's Resize makes of one slice
        data["img"] = data["img"][..., 0]
    shape = data["img"].shape
    results = RandomCTAffine(prob=1.0)(data)
    assert results["img"].shape == shape
    assert len(results["gt_bboxes"]) == len(results["gt_masks"]) == 0


def test_plain_arrays_and_images_without_annotations() -> None:
    np.random.seed(0)
    boxes = np.array([[40, 30, 60, 50]], np.float32)
    results = RandomCTAffine(prob=1.0)(
        {"img": np.zeros((80, 100, 3), np.float32), "gt_bboxes": boxes}
    )
    # autocast_box_type gives back what it was given.
    assert isinstance(results["gt_bboxes"], np.ndarray)
    assert results["gt_bboxes"].shape == (1, 4)
    assert set(RandomCTAffine(prob=1.0)({"img": np.zeros((8, 8, 3), np.float32)})) == {"img"}


def test_random_numbers_are_numpys_and_in_range() -> None:
    transform = RandomCTAffine(0.04, 0.2, 15, prob=0.8)
    np.random.seed(3)
    first = [transform._draw() for _ in range(2000)]
    np.random.seed(3)
    assert [transform._draw() for _ in range(2000)] == first
    drawn = [d for d in first if d is not None]
    assert len(drawn) / len(first) == pytest.approx(0.8, abs=0.03)
    shifts, scales, angles = (np.array(values) for values in zip(*drawn, strict=True))
    for values, low, high in ((shifts, -0.04, 0.04), (scales, 0.8, 1.2), (angles, -15, 15)):
        assert low <= values.min() < 0.95 * low + 0.05 * high
        assert 0.05 * low + 0.95 * high < values.max() <= high


def test_probability_zero_changes_nothing() -> None:
    data = sample(3, [[50, 30, 60, 40]])
    before = data["img"].copy()
    assert np.array_equal(RandomCTAffine(prob=0)(data)["img"], before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift_limit": -0.1}, r"shift_limit must be in \[0, 1\], got -0.1"),
        ({"scale_limit": 1}, "scale_limit must be < 1"),
        ({"rotate_limit": 200}, r"rotate_limit must be in \[0, 180\] degrees, got 200"),
        ({"prob": 2}, r"prob must be in \[0, 1\], got 2"),
        ({"min_visible": math.nan}, r"min_visible must be in \[0, 1\], got nan"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomCTAffine(**arguments)


def test_polygons_are_refused() -> None:
    data = sample(3, [[50, 30, 60, 40]]) | {"gt_masks": PolygonMasks([], 80, 100)}
    with pytest.raises(
        TypeError, match="gt_masks must be BitmapMasks, got PolygonMasks: set poly2"
    ):
        RandomCTAffine(prob=1.0)(data)


@pytest.mark.parametrize("depth", [1, 3, 7])
@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_flipped_box_covers_the_pixels_of_its_flipped_mask(depth: int, direction: str) -> None:
    data = sample(depth, [[4, 10, 15, 19], [0, 0, 99, 79]])
    results = RandomCTFlip(prob=1.0, direction=direction)(data)
    assert results["flip"]
    assert results["img"].shape == (80, 100, depth)
    for (x1, y1, x2, y2), mask in zip(
        results["gt_bboxes"].tensor.int().tolist(), results["gt_masks"].masks, strict=True
    ):
        covered = np.zeros_like(mask)
        covered[y1 : y2 + 1, x1 : x2 + 1] = 1
        assert np.array_equal(covered, mask)
    expected = {"horizontal": [84, 10, 95, 19], "vertical": [4, 60, 15, 69]}
    first = results["gt_bboxes"].tensor[0].tolist()
    assert first == expected.get(direction, [84, 60, 95, 69])


def test_flipping_twice_and_not_at_all_give_the_same() -> None:
    flip = RandomCTFlip(prob=1.0)
    assert flip(flip(sample(3, [[4, 10, 15, 19]])))["gt_bboxes"].tensor.tolist() == [
        [4, 10, 15, 19]
    ]
    data = RandomCTFlip(prob=0.0)(sample(3, [[4, 10, 15, 19]]))
    assert data["gt_bboxes"].tensor.tolist() == [[4, 10, 15, 19]]
    assert "gt_bboxes" not in flip({"img": np.zeros((8, 8, 3), np.float32)})


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_pad(depth: int) -> None:
    data = sample(depth, [[50, 30, 60, 40]])
    before = data["img"].copy()
    results = PadCT(size_divisor=32)(data)
    assert results["img"].shape == results["pad_shape"] == (96, 128, depth)
    assert results["img_shape"] == (96, 128)
    assert np.array_equal(results["img"][:80, :100], before)
    assert (results["img"][80:] == FILL).all()
    assert (results["img"][:, 100:] == FILL).all()
    assert results["gt_masks"].masks.shape == (1, 96, 128)


def test_pad_to_a_size_and_to_a_square() -> None:
    assert PadCT(size=(120, 90), fill_value=0)(sample(5, []))["img"].shape == (90, 120, 5)
    assert PadCT(pad_to_square=True)(sample(5, []))["img"].shape == (100, 100, 5)


def test_repr() -> None:
    assert repr(RandomCTAffine()) == (
        "RandomCTAffine(shift_limit=0.04, scale_limit=0.2, rotate_limit=15.0, prob=0.8, "
        "fill_value=-50.0, min_visible=0.1)"
    )


def noisy(depth: int) -> dict:
    data = sample(depth, [[4, 10, 15, 19], [50, 30, 60, 40]])
    noise = np.random.default_rng(0).normal(size=(depth, 80, 100)).astype(np.float32)
    return data | {"img": as_stack(noise)}


def test_slices_stay_whole_in_memory() -> None:
    data = noisy(7)
    for transform in (RandomCTAffine(prob=1.0), ResizeCT(scale=(50, 40)), RandomCTFlip(prob=1.0),
                      PadCT(size_divisor=32)):  # fmt: skip
        data = transform(data)
        assert data["img"].transpose(2, 0, 1).flags.c_contiguous, transform


def test_a_stack_that_others_hold_is_not_flipped_with_ours() -> None:
    data = noisy(3)
    before = data["img"].copy()
    flipped = RandomCTFlip(prob=1.0)(dict(data))["img"]
    assert np.array_equal(flipped, before[:, ::-1])
    assert np.array_equal(data["img"], before)


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_slices_move_as_opencv_moves_each(depth: int) -> None:
    volume = np.random.default_rng(0).normal(size=(40, 30, depth)).astype(np.float32)
    matrix = affine_matrix((40, 30), (0.02, -0.03), 0.9, -12)
    moved = warp_slices(volume, matrix, FILL)
    for index in range(depth):
        plane = np.ascontiguousarray(volume[..., index])
        wanted = cv2.warpAffine(plane, matrix, (30, 40), borderValue=FILL)
        np.testing.assert_allclose(moved[..., index], wanted, rtol=1e-4, atol=1e-4)
