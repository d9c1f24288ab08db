"""Tests of swaps and flips, against SimpleITK's."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from deeplesion.scans import Geometry, ScanError
from deeplesion.scans.itk_files import geometry_of
from deeplesion.scans.orientation import Turn, check_upright, plane_of
from tests.deeplesion.scans.helpers import AXIS_ORDERS, image_of, turned_geometry


def about_x(degrees: float) -> np.ndarray:
    """Rotation about the patient's x axis."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])


@pytest.mark.parametrize(("order", "signs"), AXIS_ORDERS)
def test_turns_as_simpleitk_does(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    stored = turned_geometry(order, signs)
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(7, 6, 5)
    expected = SimpleITK.DICOMOrient(image_of(array, stored), "LPI")
    turn = Turn.of(stored)
    turned = turn.geometry(stored)
    assert np.array_equal(turn.apply(array), SimpleITK.GetArrayFromImage(expected))
    for name in ("origin", "spacing", "direction", "size"):
        assert np.allclose(getattr(turned, name), getattr(geometry_of(expected), name)), name
    assert np.array_equal(turn.undo(turn.apply(array)), array)


def test_a_turn_copies_nothing() -> None:
    stored = turned_geometry((2, 0, 1), (-1, 1, -1))
    array = np.zeros((7, 6, 5), np.int16)
    turn = Turn.of(stored)
    assert np.shares_memory(turn.apply(array), array)
    assert np.shares_memory(turn.undo(turn.apply(array)), array)


def test_a_slanted_scan_keeps_its_directions() -> None:
    direction = about_x(8) @ np.diag([-1.0, 1, 1])
    stored = Geometry(np.zeros(3), np.ones(3), direction, (4, 5, 6))
    turned = Turn.of(stored).geometry(stored)
    check_upright(turned)
    assert np.allclose(turned.direction, about_x(8) @ np.diag([1.0, 1, -1]))
    assert np.allclose(turned.to_patient([3, 0, 5]), stored.to_patient([0, 0, 0]))


@pytest.mark.parametrize(
    ("normal", "plane"),
    [
        ([0, 0, 1], "axial"),
        ([0, 0.2, -1], "axial"),
        ([0, -1, 0], "coronal"),
        ([1, 0, 0], "sagittal"),
        ([0, 1, 1], "oblique"),
        ([0, 0.35, 1], "oblique"),
    ],
)
def test_planes(normal: list[float], plane: str) -> None:
    assert plane_of(np.array(normal, np.float64)) == plane


def test_refuses_oblique_scans_with_the_angle() -> None:
    stored = Geometry(np.zeros(3), np.ones(3), about_x(20), (4, 5, 6))
    with pytest.raises(ScanError, match=r"oblique, turned by 20\.0 degrees .* resample"):
        check_upright(Turn.of(stored).geometry(stored))


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal")])
def test_refuses_scans_of_coronal_or_sagittal_slices(axis: int, plane: str) -> None:
    spacing = np.ones(3)
    spacing[axis] = 5
    with pytest.raises(ScanError, match=f"the slices are {plane}, 5 mm apart"):
        check_upright(Geometry(np.zeros(3), spacing, np.diag([1.0, 1, -1]), (4, 5, 6)))
