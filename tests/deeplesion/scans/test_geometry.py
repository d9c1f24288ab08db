"""Tests of voxels and positions."""

from __future__ import annotations

import numpy as np
import pytest

from tests.deeplesion.scans.helpers import turned_geometry


def test_positions_by_hand() -> None:
    # x runs to the patient's right, y to posterior, z to inferior.
    geometry = turned_geometry((0, 1, 2), (-1, 1, -1), spacing=(0.5, 1, 2), origin=(10, 20, 30))
    assert geometry.to_patient([0, 0, 0]).tolist() == [10, 20, 30]
    assert geometry.to_patient([2, 3, 4]).tolist() == [9, 23, 22]
    assert geometry.to_voxels([9, 23, 22]).tolist() == [2, 3, 4]


def test_swapped_axes_by_hand() -> None:
    geometry = turned_geometry((2, 0, 1), (1, 1, 1), spacing=(0.5, 1, 2), origin=(0, 0, 0))
    assert geometry.to_patient([1, 0, 0]).tolist() == [0, 0, 0.5]
    assert geometry.to_patient([0, 1, 0]).tolist() == [1, 0, 0]
    assert geometry.to_patient([0, 0, 1]).tolist() == [0, 2, 0]


def test_positions_come_back_in_any_shape() -> None:
    geometry = turned_geometry((1, 2, 0), (1, -1, 1))
    voxels = np.random.default_rng(0).uniform(-3, 9, (2, 4, 3))
    assert geometry.to_voxels(geometry.to_patient(voxels)) == pytest.approx(voxels)
