"""Measurements of lesions of known size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deeplesion.lesions.lesion import Lesion, SliceMask
from deeplesion.lesions.measuring import ellipse_in_box, largest_component, measure_lesion

SPACING = (0.5, 2.0, 3.0)
SHAPE = (12, 40, 50)


def lesion(
    masks: dict[int, SliceMask] | None = None,
    boxes: dict[int, list[float]] | None = None,
    scores: list[float] | None = None,
) -> Lesion:
    """A lesion by slice: of masks (boxes are of no account then), or of boxes alone."""
    slices = sorted(masks or boxes or {})
    rows = [(boxes or {}).get(z, [0, 0, 1, 1]) for z in slices]
    values = np.array(scores or [0.9] * len(slices))
    return Lesion(
        number=7,
        score=float(values.max()),
        slices=np.array(slices),
        boxes=np.array(rows, float),
        scores=values,
        masks=tuple(masks[z] for z in slices) if masks else (),
        key_slice=slices[int(values.argmax())],
    )


def block(width: int, height: int, x: int = 5, y: int = 6) -> SliceMask:
    """A rectangle of pixels."""
    return SliceMask(x, y, np.ones((height, width), bool))


def gradient() -> np.ndarray:
    """HU that tell y and z of their voxel."""
    z, y, _ = np.indices(SHAPE)
    return (100 * z + y).astype(np.int16)


def test_block_of_pixels_by_hand() -> None:
    found = measure_lesion(lesion({2: block(8, 2), 3: block(8, 3)}), gradient(), SPACING)
    assert found.slice == 3
    assert found.source == "mask"
    assert found.area == 24 * 0.5 * 2
    assert found.volume == (16 + 24) * 0.5 * 2 * 3
    assert found.hu == pytest.approx((307, math.sqrt(2 / 3), 306, 308))
    # The diagonal, and half a pixel.
    assert found.long.mm == pytest.approx(math.hypot(7 * 0.5, 2 * 2), abs=1)
    assert found.long.ends.mean(axis=0) == pytest.approx([5 + 3.5, 6 + 1])


def test_slice_of_the_longest_axis_is_measured_though_another_is_key() -> None:
    which = lesion({2: block(8, 2), 3: block(20, 2), 4: block(8, 2)}, scores=[0.9, 0.2, 0.3])
    assert which.key_slice == 2
    assert measure_lesion(which, gradient(), SPACING).slice == 3


def test_of_equal_axes_the_higher_score_counts_then_the_upper_slice() -> None:
    masks = {2: block(8, 2), 3: block(8, 2), 4: block(8, 2)}
    assert measure_lesion(lesion(masks, scores=[0.2, 0.3, 0.9]), gradient(), SPACING).slice == 4
    assert measure_lesion(lesion(masks), gradient(), SPACING).slice == 2


@pytest.mark.parametrize(
    ("slices", "stride", "thickness"),
    [([4], 1, 1), ([4], 3, 3), ([4, 5], 1, 2), ([0, 3], 3, 6), ([2, 5], 1, 4), ([0, 6], 3, 9)],
)
def test_volume_counts_gaps_and_stride(slices: list[int], stride: int, thickness: int) -> None:
    """So many slices thick is a lesion that has the same area everywhere."""
    found = measure_lesion(lesion({z: block(4, 4) for z in slices}), gradient(), SPACING, stride)
    assert found.volume == pytest.approx(16 * 0.5 * 2 * thickness * 3)


def test_gaps_are_interpolated() -> None:
    found = measure_lesion(lesion({2: block(2, 2), 4: block(6, 2)}), gradient(), (1, 1, 1))
    assert found.volume == 4 + 8 + 12


def test_sphere_has_its_volume() -> None:
    z, y, x = np.indices((21, 41, 41))
    ball = (x - 20) ** 2 + (y - 20) ** 2 + (2 * (z - 10)) ** 2 <= 15**2
    masks = {int(k): SliceMask(0, 0, ball[k]) for k in np.flatnonzero(ball.any((1, 2)))}
    found = measure_lesion(lesion(masks), np.zeros(ball.shape, np.int16), (0.8, 0.8, 1.6))
    assert found.volume == pytest.approx(4 / 3 * math.pi * (15 * 0.8) ** 3, rel=0.02)
    assert found.long.mm == pytest.approx(30 * 0.8, abs=0.5)
    assert found.short.mm == pytest.approx(30 * 0.8, abs=0.5)
    assert found.area == pytest.approx(math.pi * 12**2, rel=0.02)
    assert found.slice == 10


def test_the_largest_component_counts_with_its_holes() -> None:
    pixels = np.zeros((6, 12), bool)
    pixels[0, :3] = True
    pixels[2:5, 5:9] = True
    pixels[5, 9] = True  # joined at its corner
    pixels[3, 6] = False
    region = largest_component(SliceMask(10, 20, pixels))
    assert region is not None
    assert (region.x, region.y, region.pixels.shape) == (15, 22, (4, 5))
    assert region.pixels.sum() == 12
    found = measure_lesion(lesion({0: SliceMask(10, 20, pixels)}), gradient(), SPACING)
    assert found.area == 12
    assert found.region is not None
    assert (found.region.x, found.region.y) == (15, 22)


def test_of_equal_components_the_uppermost_counts() -> None:
    pixels = np.zeros((5, 9), bool)
    pixels[1:3, 6:8] = pixels[3:5, 0:2] = True
    region = largest_component(SliceMask(0, 0, pixels))
    assert region is not None
    assert (region.x, region.y) == (6, 1)
    assert largest_component(SliceMask(0, 0, np.zeros((4, 4), bool))) is None


def test_a_slice_with_an_empty_mask_is_a_gap() -> None:
    empty = SliceMask(0, 0, np.zeros((3, 3), bool))
    found = measure_lesion(
        lesion({2: empty, 3: block(4, 4), 4: empty, 5: block(4, 4)}), gradient(), SPACING
    )
    assert found.source == "mask"
    assert found.slice == 3
    assert found.volume == 16 * 3 * 3


@pytest.mark.parametrize("with_masks", [False, True])
def test_without_masks_the_ellipse_in_the_box_is_measured(with_masks: bool) -> None:
    boxes = {2: [10.0, 10, 19, 14], 3: [10.0, 10, 39, 14]}
    empty = {z: SliceMask(0, 0, np.zeros((3, 3), bool)) for z in boxes}
    found = measure_lesion(lesion(empty if with_masks else None, boxes), gradient(), SPACING)
    assert found.source == "box"
    assert found.slice == 3
    assert found.long.mm == 15
    assert found.short.mm == 10
    assert found.area == pytest.approx(math.pi / 4 * 150)
    assert found.volume == pytest.approx(math.pi / 4 * (50 + 150) * 3)
    assert found.hu.mean == pytest.approx(312)
    assert (found.hu.min, found.hu.max) == (310, 314)


def test_box_between_pixels_has_a_size_but_no_density() -> None:
    found = measure_lesion(lesion(boxes={1: [3.5, 3.5, 3.5, 3.5]}), gradient(), SPACING)
    assert found.region is None
    assert all(math.isnan(value) for value in found.hu)
    assert found.area > 0


def test_ellipse_in_a_box_keeps_within_the_slice() -> None:
    region = ellipse_in_box([-3, -3, 3, 3], (40, 50))
    assert region is not None
    assert (region.x, region.y, region.pixels.shape) == (0, 0, (4, 4))
    assert not region.pixels[3, 3]
    assert ellipse_in_box([60, 3, 70, 9], (40, 50)) is None


def test_ellipse_in_a_box_fills_it_to_its_edges() -> None:
    region = ellipse_in_box([10.4, 20.4, 17.6, 22.6], (40, 50))  # from 9.9 to 18.1, 19.9 to 23.1
    assert region is not None
    assert (region.x, region.y, region.pixels.shape) == (10, 20, (4, 9))
    assert region.pixels.sum() == pytest.approx(np.pi / 4 * 8.2 * 3.2, abs=2)


@pytest.mark.parametrize(
    ("which", "stride", "message"),
    [
        (lesion({11: block(1, 1), 12: block(1, 1)}), 1, "lesion 7 is on slices 11 to 12 of a scan"),
        (lesion({3: block(8, 2, x=45)}), 1, r"slice 3: a mask of 8 x 2 px at \(45, 6\) does not"),
        (lesion({3: block(8, 2, x=-1)}), 1, "does not lie within the slice of 50 x 40 px"),
        (lesion({3: block(8, 2)}), 0, "stride must be at least 1 slice, got 0"),
    ],
)
def test_what_cannot_be_is_named(which: Lesion, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_lesion(which, gradient(), SPACING, stride)
