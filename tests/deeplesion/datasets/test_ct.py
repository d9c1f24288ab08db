"""Tests of loading slices and of z-resampling."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.datasets import ct
from deeplesion.datasets.ct import (
    SliceError,
    interpolation_weights,
    load_volume,
    read_hu,
    read_slice,
    resample_positions,
    thickness_after,
    window_to_uint8,
)
from tests.deeplesion.datasets.helpers import write_series, write_slice

SERIES = "000001_01_01"
intervals = st.floats(0.1, 20)
odd = st.integers(0, 12).map(lambda half: 2 * half + 1)


@pytest.mark.parametrize(
    ("num_slices", "interval", "mode", "expected"),
    [
        (1, 0.8, "thin", [0]),
        (3, 0.8, "thin", [-2.5, 0, 2.5]),
        (5, 1.0, "thin", [-4, -2, 0, 2, 4]),
        (3, 2.0, "thin", [-1, 0, 1]),
        (3, 5.0, "thin", [-1, 0, 1]),
        (3, 5.0, "always", [-0.4, 0, 0.4]),
        (7, 5.0, "always", [-1.2, -0.8, -0.4, 0, 0.4, 0.8, 1.2]),
        (3, math.nan, "thin", [-1, 0, 1]),
        (3, -1.0, "always", [-1, 0, 1]),
        (3, math.inf, "always", [-1, 0, 1]),
    ],
)
def test_positions(num_slices: int, interval: float, mode: Any, expected: list[float]) -> None:
    assert resample_positions(num_slices, interval, 2.0, mode) == pytest.approx(expected)


@given(odd, intervals, st.floats(0.5, 10), st.sampled_from(["thin", "always"]))
def test_positions_are_even_and_spaced_by_the_thickness(
    num_slices: int, interval: float, target: float, mode: Any
) -> None:
    offsets = resample_positions(num_slices, interval, target, mode)
    assert offsets.shape == (num_slices,)
    assert offsets[num_slices // 2] == 0
    assert np.array_equal(offsets, -offsets[::-1])
    thickness = thickness_after(interval, target, mode)
    step = thickness / interval
    assert np.allclose(np.diff(offsets), step, atol=3 * ct.OFFSET_TOLERANCE)
    if mode == "always" or interval < target:
        assert thickness == target
    else:
        assert thickness == interval
        assert np.array_equal(offsets, np.rint(offsets))


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=9))
def test_weights_give_the_offset_back(offsets: list[float]) -> None:
    above, weights = interpolation_weights(np.array(offsets))
    assert ((weights >= 0) & (weights <= 1)).all()
    assert np.allclose(above * (1 - weights) + (above + 1) * weights, offsets)


def test_a_ratio_that_is_nearly_whole_is_whole() -> None:
    assert resample_positions(3, 0.99999, 2.0).tolist() == [-2, 0, 2]


def test_thickness_of_unknown_interval_is_unknown() -> None:
    for interval in (math.nan, -1.0, 0.0, math.inf):
        assert math.isnan(thickness_after(interval, 2.0, "always"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 1.0, 2.0, "thin"), "num_slices must be odd and >= 1.*got 4"),
        ((-1, 1.0, 2.0, "thin"), "num_slices must be odd and >= 1.*got -1"),
        ((3, 1.0, 0.0, "thin"), "slice_interval must be > 0 mm, got 0.0"),
        ((3, 1.0, math.nan, "thin"), "slice_interval must be > 0 mm, got nan"),
        ((3, 1.0, 2.0, "never"), r"interpolate must be one of \('thin', 'always'\), got 'never'"),
    ],
)
def test_bad_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resample_positions(*arguments)


def test_slice_is_in_hu(tmp_path: Path) -> None:
    hu = np.arange(-1024, 2048).reshape(64, 48)
    image = read_slice(write_slice(tmp_path / "001.png", hu), (64, 48))
    assert image.dtype == np.float32
    assert np.array_equal(image, hu)


def stack(tmp_path: Path, key: int, offsets: list[float]) -> list[float]:
    """HU of each slice of a stack in which every slice is constant."""
    volume = load_volume(tmp_path / "Images_png", SERIES, key, np.array(offsets, float))
    assert volume.shape == (64, 48, len(offsets))
    assert volume.dtype == np.float32
    assert volume.transpose(2, 0, 1).flags.c_contiguous
    assert (volume == volume[:1, :1]).all()
    return volume[0, 0].tolist()


def test_interpolated_values(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, range(1, 20))
    offsets = [-6.4, -2.5, -0.25, 0, 0.25, 2.5, 9]
    expected = [36, 75, 97.5, 100, 102.5, 125, 190]
    assert stack(tmp_path, 10, offsets) == pytest.approx(expected, abs=1e-4)


def test_missing_neighbor_is_the_nearest_stored_one(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [3, 4, 5, 6, 9, 12])
    assert stack(tmp_path, 5, [-4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 9]) == [
        *(30, 30, 30, 40, 50, 60),
        *(60, 90, 90, 90, 120, 120),
    ]
    # Half-way between slices that stand for different stored ones, and for the same one.
    assert stack(tmp_path, 5, [2.5, 3.5]) == [75, 90]


def test_of_two_as_near_the_one_towards_the_key_slice_is_taken(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [3, 5, 7, 9])
    assert stack(tmp_path, 5, [-1, 1, 3]) == [50, 50, 70]
    write_series(tmp_path, SERIES, [1])
    assert stack(tmp_path, 5, [-3]) == [30]


def test_window_maps_its_ends_to_0_and_255_and_clips() -> None:
    hu = np.array([-1000.0, -175.0, 50.0, 275.0, 3000.0])
    assert window_to_uint8(hu, (-175, 275)).tolist() == [0, 0, 128, 255, 255]


def test_empty_window_is_named() -> None:
    with pytest.raises(ValueError, match=r"window must be \(low, high\) in HU with low < high"):
        window_to_uint8(np.zeros(3), (50.0, 50.0))


def test_key_slice_alone_fills_the_stack(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [5])
    assert stack(tmp_path, 5, [-3.5, -1, 0, 2]) == [50] * 4


def test_each_slice_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, SERIES, range(1, 20))
    read = []

    def spy(path: Path, size: Any = None) -> Any:
        read.append(path.name)
        return read_hu(path, size)

    monkeypatch.setattr(ct, "read_hu", spy)
    stack(tmp_path, 10, [-1.5, -1.2, -0.5, 0, 0.5, 1, 1.5])
    assert sorted(read) == ["008.png", "009.png", "010.png", "011.png", "012.png"]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(-1000, 1000, (64, 48))
    return write_slice(tmp_path / "Images_png" / SERIES / "005.png", noise)


def test_missing_key_slice(tmp_path: Path) -> None:
    with pytest.raises(SliceError, match=r"005\.png is missing"):
        load_volume(tmp_path, SERIES, 5, np.zeros(1))


@pytest.mark.parametrize("left", [0, 10, 33, 200, -1])
def test_truncated(good: Path, left: int) -> None:
    good.write_bytes(good.read_bytes()[:left])
    with pytest.raises(SliceError, match=r"005\.png is (not a PNG, or )?truncated"):
        read_slice(good)


def test_damaged_inside(good: Path) -> None:
    content = bytearray(good.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(8)
    good.write_bytes(content)
    with pytest.raises(SliceError, match=r"005\.png is not a readable PNG"):
        read_slice(good)


def test_bytes_behind_the_end_do_no_harm(good: Path) -> None:
    before = read_slice(good)
    good.write_bytes(good.read_bytes() + b"\0\0")
    assert np.array_equal(read_slice(good), before)


def test_eight_bit_color_and_jpeg(good: Path) -> None:
    cv2.imwrite(str(good), np.zeros((64, 48), np.uint8))
    with pytest.raises(SliceError, match=r"005\.png must be a 16-bit gray PNG.*got 8 bit, gray"):
        read_slice(good)
    cv2.imwrite(str(good), np.zeros((64, 48, 3), np.uint16))
    with pytest.raises(SliceError, match="got 16 bit, not gray"):
        read_slice(good)
    good.write_bytes(cv2.imencode(".jpg", np.zeros((64, 48), np.uint8))[1].tobytes())
    with pytest.raises(SliceError, match="is not a PNG"):
        read_slice(good)


def test_other_size(good: Path) -> None:
    with pytest.raises(SliceError, match=r"must have 48 x 64 px \(h x w\), got 64 x 48"):
        read_slice(good, (48, 64))


def test_a_folder_is_no_slice(tmp_path: Path) -> None:
    with pytest.raises(SliceError, match="cannot be read"):
        read_slice(tmp_path)


def test_unreadable_neighbor(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [4, 5, 6])
    (tmp_path / "Images_png" / SERIES / "006.png").write_bytes(b"")
    root, offsets = tmp_path / "Images_png", np.array([-1.0, 0, 1])
    with pytest.raises(SliceError, match=r"006\.png"):
        load_volume(root, SERIES, 5, offsets)
    volume = load_volume(root, SERIES, 5, offsets, skip_bad_neighbors=True)
    assert volume[0, 0].tolist() == [40, 50, 50]


def test_neighbor_must_have_the_size_of_the_key_slice(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [5])
    write_slice(tmp_path / "Images_png" / SERIES / "006.png", 0, (48, 64))
    with pytest.raises(SliceError, match=r"006\.png must have 64 x 48"):
        load_volume(tmp_path / "Images_png", SERIES, 5, np.array([0.0, 0, 1]))


@pytest.mark.parametrize(
    ("num_slices", "interval", "mode", "expected"),
    [
        (1, 0.8, "thin", [0]),
        (5, 0.8, "thin", [-5, -2.5, 0, 2.5, 5]),
        (3, 5.0, "thin", [-1, 0, 1]),
        (3, 5.0, "always", [-0.4, 0, 0.4]),
        (3, 0.99999, "thin", [-2.0 / 0.99999, 0, 2.0 / 0.99999]),  # not rounded
        (5, math.nan, "thin", [0] * 5),
        (3, -1.0, "always", [0] * 3),
        (3, math.inf, "thin", [-1, 0, 1]),
        (3, math.inf, "always", [0] * 3),
    ],
)
def test_legacy_positions(
    num_slices: int, interval: float, mode: Any, expected: list[float]
) -> None:
    offsets = resample_positions(num_slices, interval, 2.0, mode, legacy=True)
    np.testing.assert_array_equal(offsets, expected)


def test_legacy_positions_at_interval_0() -> None:
    with pytest.raises(ValueError, match="slice_interval must not be 0 mm with legacy=True, got 0"):
        resample_positions(3, 0.0, 2.0, legacy=True)


@pytest.mark.parametrize("interval", [0.8, 5.0, -1.0, 0.0])
@pytest.mark.parametrize("mode", ["thin", "always"])
def test_legacy_thickness_is_the_interval_as_stored(interval: float, mode: Any) -> None:
    assert thickness_after(interval, 2.0, mode, legacy=True) == interval
    assert math.isnan(thickness_after(math.nan, 2.0, mode, legacy=True))


def test_legacy_weights_are_those_of_the_first_neighbor() -> None:
    offsets = np.array([-3.75, -2.5, -1.25, 0, 1.25, 2.5, 3.75])
    above, weights = interpolation_weights(offsets, legacy=True)
    assert above.tolist() == [-4, -3, -2, 0, 1, 2, 3]
    # The slice that is farther from the key slice weighs 0.25 everywhere.
    assert weights.tolist() == [0.75, 0.75, 0.75, 0, 0.25, 0.25, 0.25]
    # A neighbor that is a stored slice stays one.
    above, weights = interpolation_weights(np.array([-5, -2.5, 0, 2.5, 5]), legacy=True)
    assert (above.tolist(), weights.tolist()) == ([-5, -3, 0, 2, 5], [0, 0.5, 0, 0.5, 0])
    assert interpolation_weights(np.zeros(1), legacy=True)[1].tolist() == [0]


def test_legacy_steps_back_towards_the_key_slice(tmp_path: Path) -> None:
    write_series(tmp_path, SERIES, [3, 4, 5, 6, 9, 12])
    offsets = np.array([-4.0, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 9])
    volume = load_volume(tmp_path / "Images_png", SERIES, 5, offsets, legacy=True)
    assert volume[0, 0].tolist() == [*(30, 30, 30, 40, 50, 60), *(60, 60, 90, 90, 90, 120)]
