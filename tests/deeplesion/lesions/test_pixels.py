"""Slices in a page: what is put in comes out, and how much room it takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from deeplesion.lesions.pixels import PixelFormat, choose_format, encode_slice, estimated_bytes
from tests.deeplesion.lesions.page_material import decode, make_scan

EXACT = PixelFormat(1, 1)


@settings(max_examples=40, deadline=None)
@given(arrays(np.int16, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_every_hu_comes_back(hu: np.ndarray) -> None:
    assert decode(encode_slice(hu, EXACT), hu.shape, EXACT).tolist() == hu.tolist()


@settings(max_examples=25, deadline=None)
@given(arrays(np.int16, (6, 5), elements=st.integers(-1024, 3071)), st.sampled_from([2, 3, 4, 8]))
def test_rounding_is_within_half_a_step(hu: np.ndarray, step: int) -> None:
    pixels = PixelFormat(step, 1)
    difference = decode(encode_slice(hu, pixels), hu.shape, pixels) - hu
    assert np.abs(difference).max() <= step / 2


def test_shrinking_takes_means_of_whole_squares() -> None:
    hu = np.array([[0, 4, 10], [8, 12, 30], [100, 200, -50]], np.int16)
    pixels = PixelFormat(1, 2)
    # Squares beyond the slice go on with its last voxels.
    assert decode(encode_slice(hu, pixels), hu.shape, pixels).tolist() == [[6, 20], [150, -50]]


def test_fractions_are_rounded_and_what_int16_lacks_is_clipped() -> None:
    hu = np.array([[0.4, 0.6, -0.6], [1e9, -1e9, 7]], np.float32)
    decoded = decode(encode_slice(hu, EXACT), hu.shape, EXACT)
    assert decoded.tolist() == [[0, 1, -1], [32767, -32768, 7]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="hu must be finite, got NaN or infinity"):
        encode_slice(np.full((2, 2), value, np.float32), EXACT)


def test_smooth_slices_take_little_room() -> None:
    assert len(encode_slice(np.full((512, 512), -1000, np.int16), EXACT)) < 2000


def test_a_scan_is_rounded_before_it_is_shrunk() -> None:
    scan = make_scan()
    exact, coarse, half = (
        estimated_bytes(scan, pixels) / 1e6 for pixels in (EXACT, PixelFormat(4), PixelFormat(1, 2))
    )
    assert exact > coarse > half
    assert choose_format(scan, 1.001 * exact) == EXACT
    assert choose_format(scan, 0.999 * exact) == PixelFormat(2, 1)
    assert choose_format(scan, 1.001 * coarse) == PixelFormat(4, 1)
    assert choose_format(scan, 0.999 * coarse) == PixelFormat(1, 2)
    assert choose_format(scan, 1e-6) == PixelFormat(4, 8)


def test_the_format_can_be_given() -> None:
    scan = make_scan()
    assert choose_format(scan, 1e9, hu_step=3) == PixelFormat(3, 1)
    assert choose_format(scan, 1e-6, hu_step=1, max_side=60) == PixelFormat(1, 1)
    assert choose_format(scan, 1e9, max_side=59) == PixelFormat(1, 2)
    assert choose_format(scan, 1e-6, max_side=30) == PixelFormat(4, 2)


def test_the_size_is_estimated_well() -> None:
    scan = make_scan()
    size = sum(len(encode_slice(hu, EXACT)) for hu in scan.hu)
    assert estimated_bytes(scan, EXACT) == pytest.approx(size, rel=0.05)
    single = replace(scan, hu=scan.hu[:1])
    assert estimated_bytes(single, EXACT) == len(encode_slice(scan.hu[0], EXACT))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_megabytes": 0}, "max_megabytes must be > 0, got 0"),
        ({"max_megabytes": 1, "hu_step": 0}, "hu_step must be > 0, got 0"),
        ({"max_megabytes": 1, "max_side": -5}, "max_side must be > 0, got -5"),
    ],
)
def test_arguments_must_be_positive(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_format(make_scan(), **arguments)
