"""Tests of what can be a CT in HU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deeplesion.scans import Geometry, ScanError
from deeplesion.scans.checks import check_finite, check_geometry, check_hu, to_int16


def geometry(**changes: Any) -> Geometry:
    """A sound one, with changes."""
    sound = dict(origin=np.zeros(3), spacing=np.ones(3), direction=np.eye(3), size=(4, 5, 6))
    return Geometry(**{**sound, **changes})


def test_a_sound_geometry_passes() -> None:
    check_geometry(geometry())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spacing": np.array([1, 0, 2.0])},
            "spacing must be > 0 mm along x, y and z, got 1, 0, 2",
        ),
        ({"spacing": np.array([1, np.nan, 2.0])}, "got 1, nan, 2"),
        ({"spacing": np.array([1, -1.0, 2.0])}, "got 1, -1, 2"),
        ({"origin": np.array([0, np.inf, 0])}, "origin must be finite"),
        ({"direction": np.zeros((3, 3))}, "not at right angles"),
        ({"direction": np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]])}, "not at right angles"),
        ({"size": (4, 5, 1)}, "got 1 slice, a scan needs at least 2"),
    ],
)
def test_refuses_impossible_geometry(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScanError, match=message):
        check_geometry(geometry(**changes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [0, 1, 2],
            "looks like a mask, a label map or an 8-bit picture: its values go from 0 to 2",
        ),
        ([0, 104], "label map"),
        ([0, 24, 3000], r"not in HU: .* from 0 to 3000.* raw values without rescaling .*MR"),
        ([0.0, 0.5, 1.0], r"from 0 to 1, none is as dark as air .*scaled"),
        ([-3.5, 0, 4.25], "MR, PET, scaled"),
        ([-150, 60, 400], "none is as dark as air"),
        ([-32768, 60, 400], "none is as dark as air"),
        ([-1000, -1000], "all voxels are -1000"),
    ],
)
def test_refuses_what_is_not_in_hu(values: list[float], message: str) -> None:
    dtype = np.int16 if all(isinstance(value, int) for value in values) else np.float32
    with pytest.raises(ScanError, match=message) as caught:
        check_hu(np.array(values, dtype).reshape(1, 1, -1))
    assert "all voxels" in message or "--no-hu-check" in str(caught.value)


@pytest.mark.parametrize("values", [[-1024, 40], [-210, 40, 60], [-32768, -1000, 3071]])
def test_takes_what_can_be_hu(values: list[int]) -> None:
    check_hu(np.array(values, np.int16).reshape(1, 1, -1))


def test_counts_what_is_not_finite() -> None:
    values = np.zeros((2, 3, 4), np.float32)
    check_finite(values)
    values[0, 0, :3] = np.nan
    with pytest.raises(ScanError, match="3 of 24 voxels are NaN"):
        check_finite(values)
    values[0, 0, :3] = [-np.inf, np.inf, 0]
    with pytest.raises(ScanError, match="2 of 24 voxels are infinite"):
        check_finite(values)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float32, np.float64])
def test_whole_numbers_become_int16(dtype: Any) -> None:
    values = np.array([-100, 0, 100], dtype).reshape(3, 1, 1)
    assert to_int16(values).dtype == np.int16
    assert to_int16(values).ravel().tolist() == [-100, 0, 100]


def test_fractions_stay_and_large_values_saturate() -> None:
    assert to_int16(np.array([0.5, -1000.25]).reshape(1, 1, 2)).dtype == np.float32
    large = np.array([0, 40000, 65535], np.uint16).reshape(1, 1, 3)
    assert to_int16(large).ravel().tolist() == [0, 32767, 32767]


def test_int16_is_not_copied() -> None:
    values = np.zeros((2, 3, 4), np.int16)
    assert np.shares_memory(to_int16(values), values)
