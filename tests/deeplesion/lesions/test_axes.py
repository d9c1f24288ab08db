"""Axes of shapes whose size is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deeplesion.lesions.axes import axes_of_box, axes_of_mask

Pair = tuple[float, float]
PART = 0.5  # what a pixel adds to a distance of centers, in pixels


def ellipse(semi: Pair, angle: float, center: Pair, spacing: Pair) -> NDArray[np.bool_]:
    """Pixels with their centers in an ellipse; lengths in mm, the center from the middle pixel."""
    margin = int(max(semi) / min(spacing)) + 3
    y, x = np.mgrid[-margin : margin + 1, -margin : margin + 1]
    x, y = x * spacing[0] - center[0], y * spacing[1] - center[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return (u / semi[0]) ** 2 + (v / semi[1]) ** 2 <= 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (0.7, 1.4), (1.0, 0.8)])
@pytest.mark.parametrize("radius", [3, 5, 8, 20])
@pytest.mark.parametrize("flatness", [1.0, 0.6])
def test_ellipses_have_their_diameters(spacing: Pair, radius: float, flatness: float) -> None:
    rng = np.random.default_rng(0)
    pixel = max(spacing)
    semi = (radius * pixel, flatness * radius * pixel)
    errors = []
    for _ in range(24):
        x, y = rng.uniform(-0.5, 0.5, 2) * spacing
        mask = ellipse(semi, rng.uniform(0, np.pi), (x, y), spacing)
        axes = axes_of_mask(mask, spacing)
        errors.append([axes.long.mm - 2 * semi[0], axes.short.mm - 2 * semi[1]])
    assert np.abs(np.mean(errors, axis=0)).max() < PART * pixel
    assert np.abs(errors).max() < 1.5 * pixel


@pytest.mark.parametrize("degrees", [0, 30, 45, 100, 160])
def test_direction_is_that_of_the_ellipse(degrees: float) -> None:
    mask = ellipse((24, 12), np.deg2rad(degrees), (0, 0), (0.8, 0.8))
    long, short = axes_of_mask(mask, (0.8, 0.8))
    run, rise = long.ends[1] - long.ends[0]
    off = (np.rad2deg(np.arctan2(rise, run)) - degrees) % 180
    assert min(off, 180 - off) < 4
    middle = (np.array(mask.shape[::-1]) - 1) / 2
    assert long.ends.mean(axis=0) == pytest.approx(middle, abs=1)
    assert short.ends.mean(axis=0) == pytest.approx(middle, abs=1)


def test_one_pixel_and_rows_of_pixels() -> None:
    one = axes_of_mask(np.ones((1, 1), bool), (0.8, 0.8))
    assert one.long.mm == pytest.approx(0.8 * PART)
    row = axes_of_mask(np.ones((1, 7), bool), (2.0, 1.0))
    assert row.long.mm == pytest.approx(2.0 * (6 + PART))
    assert row.long.ends == pytest.approx(np.array([[-PART / 2, 0], [6 + PART / 2, 0]]))
    assert row.short.mm == pytest.approx(1.0 * PART)
    assert row.short.ends[:, 0] == pytest.approx([3, 3])  # in the middle
    column = axes_of_mask(np.ones((7, 1), bool), (2.0, 1.0))
    assert column.long.mm == pytest.approx(6 + PART)
    assert column.long.ends[:, 1] == pytest.approx([-PART / 2, 6 + PART / 2])


def test_short_axis_is_the_longest_segment_not_the_extent() -> None:
    # A lightning: its hull is 9 px high, but no vertical segment in it is.
    mask = np.zeros((9, 41), bool)
    mask[0, :11] = mask[8, 30:] = mask[4] = True
    long, short = axes_of_mask(mask, (1, 1))
    assert long.mm == pytest.approx(np.hypot(40, 8) + PART, abs=0.02)
    assert short.mm < 7


def test_holes_make_no_difference_and_the_rest_of_the_crop_neither() -> None:
    disc = ellipse((9, 9), 0, (0, 0), (1, 1))
    ring = disc.copy()
    ring[9:14, 9:14] = False
    before = axes_of_mask(disc, (1, 1))
    after = axes_of_mask(np.pad(ring, ((2, 5), (3, 1))), (1, 1))
    assert after.long.mm == before.long.mm
    offset = np.array([3, 2])
    assert after.long.ends == pytest.approx(before.long.ends + offset)
    assert after.short.ends == pytest.approx(before.short.ends + offset)


def test_empty_mask_has_no_axes() -> None:
    with pytest.raises(ValueError, match="at least one that is set"):
        axes_of_mask(np.zeros((3, 3), bool), (1, 1))


def test_axes_of_a_box_span_its_pixels() -> None:
    axes = axes_of_box([10, 20, 19, 23], (0.5, 2.0))  # 10 x 4 px, 5 x 8 mm
    assert axes.long.mm == 8
    assert axes.long.ends.tolist() == [[14.5, 19.5], [14.5, 23.5]]
    assert axes.short.mm == 5
    assert axes.short.ends.tolist() == [[9.5, 21.5], [19.5, 21.5]]
    square = axes_of_box([0, 0, 3, 3], (1, 1))
    assert square.long.ends.tolist() == [[-0.5, 1.5], [3.5, 1.5]]


masks = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6).map(
    lambda rows: np.array(rows, bool)
)


@settings(max_examples=60)
@given(masks.filter(np.any), st.sampled_from([(1.0, 1.0), (0.5, 1.5)]))
def test_what_holds_of_any_mask(mask: NDArray[np.bool_], spacing: Pair) -> None:
    long, short = axes_of_mask(mask, spacing)
    assert long.mm + 1e-6 > short.mm > 0
    along, across = ((axis.ends[1] - axis.ends[0]) * spacing for axis in (long, short))
    assert np.hypot(*along) == pytest.approx(long.mm)
    assert np.hypot(*across) == pytest.approx(short.mm)
    assert along @ across == pytest.approx(0, abs=1e-6)
    y, x = np.nonzero(mask)
    centers = np.stack([x, y], 1) * spacing
    farthest = np.linalg.norm(centers[:, None] - centers, axis=2).max()
    assert farthest < long.mm <= farthest + PART * max(spacing) + 1e-9
    turned = axes_of_mask(mask.T, spacing[::-1])
    assert turned.long.mm == pytest.approx(long.mm)
