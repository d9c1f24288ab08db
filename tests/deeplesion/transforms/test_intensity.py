"""Tests of windowing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet")

import deeplesion  # noqa: F401
from deeplesion.transforms.intensity import WindowCT, apply_window


def test_values() -> None:
    hu = np.array([-3000, -1024, 513, 2050, 30000], np.float32)
    out = apply_window(hu, (-1024, 2050), 255, -50)
    assert out.dtype == np.float32
    assert out == pytest.approx([-50, -50, 77.5, 205, 205], abs=1e-4)
    assert hu[0] == -3000


def test_unit_range() -> None:
    out = apply_window(np.array([-175, 50, 275], np.float32), (-175, 275), scale=1)
    assert out == pytest.approx([0, 0.5, 1])


def test_transform_is_the_function() -> None:
    hu = np.random.default_rng(0).normal(0, 900, (5, 4, 7)).astype(np.float32)
    results = WindowCT()({"img": hu.copy(), "other": 1})
    assert np.array_equal(results["img"], apply_window(hu, (-1024, 2050), 255, -50))
    assert results["other"] == 1
    assert repr(WindowCT()) == "WindowCT(window=(-1024.0, 2050.0), scale=255.0, offset=-50.0)"


def test_in_place_where_that_can_be() -> None:
    hu = np.full((5, 4, 7), 50.0, np.float32)
    assert WindowCT()({"img": hu})["img"] is hu
    broadcast, flipped = np.broadcast_to(hu[:1], hu.shape), hu.copy()[:, ::-1]
    for other in (hu.astype(np.float64), broadcast, hu.astype(np.int16), flipped):
        before = other.copy()
        out = WindowCT()({"img": other})["img"]
        assert out.dtype == np.float32
        assert np.array_equal(out, apply_window(before, (-1024, 2050), 255, -50))
        assert np.array_equal(other, before)


@pytest.mark.parametrize("window", [(5, 5), (275, -175), (float("nan"), 1)])
def test_bad_window(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"window must be \(lower, upper\) in HU, lower first"):
        WindowCT(window=window)
