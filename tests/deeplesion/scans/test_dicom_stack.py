"""Tests of sorting slices and of the grid that they are on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.scans import ScanError
from deeplesion.scans.dicom_checks import plane_name
from deeplesion.scans.dicom_headers import SliceHeader
from deeplesion.scans.dicom_stack import build_stack, count_positions
from tests.deeplesion.scans.helpers import header


def refused(slices: list[SliceHeader], same: bool | None = None) -> str:
    """What is said of slices that make no stack."""
    with pytest.raises(ScanError) as caught:
        build_stack(slices, None if same is None else lambda first, second: same)
    return str(caught.value)


@given(st.permutations(range(7)))
def test_sorts_by_position_whatever_the_order(order: list[int]) -> None:
    stack = build_stack([header(2.5 * z, name=f"{(z * 5) % 7}") for z in order])
    heights = [item.position[2] for item in stack.slices if item.position]
    assert heights == [0, 2.5, 5, 7.5, 10, 12.5, 15]
    assert stack.index.tolist() == list(range(7))
    assert stack.geometry.spacing.tolist() == [0.5, 0.75, 2.5]
    assert stack.geometry.origin.tolist() == [-10, -20, 0]
    assert stack.geometry.direction.tolist() == np.eye(3).tolist()
    assert stack.geometry.size == (8, 6, 7)
    assert stack.warnings == ()


def test_sorts_along_the_normal_of_a_prone_patient() -> None:
    # Rows run to the patient's left, columns to anterior: the normal points to the feet.
    stack = build_stack([header(z, orientation=(1.0, 0, 0, 0, -1.0, 0)) for z in (0, 2, 1)])
    assert [item.path.name for item in stack.slices] == ["slice2", "slice1", "slice0"]
    assert stack.geometry.direction[:, 2].tolist() == [0, 0, -1]


def test_interval_and_thickness_are_apart() -> None:
    slices = [header(z, thickness=5.0) for z in (0, 3, 6)]
    assert build_stack(slices).geometry.spacing[2] == 3


def test_small_unevenness_is_averaged() -> None:
    stack = build_stack([header(z) for z in (0, 1.02, 1.99, 3.0)])
    assert stack.geometry.spacing[2] == pytest.approx(1.0)
    assert stack.warnings == ()


def test_a_missing_slice_is_left_to_be_filled() -> None:
    stack = build_stack([header(z) for z in (0, 2, 4, 8, 10)])
    assert stack.index.tolist() == [0, 1, 2, 4, 5]
    assert stack.geometry.size[2] == 6
    assert stack.geometry.spacing[2] == 2
    assert stack.warnings == ("slices that are missing were interpolated linearly: 1 of 6",)


def test_refuses_a_wide_gap() -> None:
    text = refused([header(z) for z in (0, 5, 10, 30, 35)])
    assert "slices are missing: a gap of 20 mm where they are 5 mm apart" in text


@pytest.mark.parametrize("heights", [(0, 2, 6, 8, 12, 14), (0, 1, 2, 3, 5, 7, 9), (0, 1, 2, 3.4)])
def test_refuses_mixed_distances(heights: tuple[float, ...]) -> None:
    assert "mixed distances of slices" in refused([header(z) for z in heights])


def test_refuses_a_drift_of_distances() -> None:
    heights = np.cumsum([1 + 0.09 * np.sign(step - 20) for step in range(40)])
    assert "mixed distances" in refused([header(float(z)) for z in heights])


def test_doubles_with_the_same_pixels_are_dropped() -> None:
    slices = [header(z) for z in (0, 1, 2)]
    stack = build_stack([*slices, header(1, name="z")], lambda first, second: True)
    assert [item.path.name for item in stack.slices] == ["slice0", "slice1", "slice2"]
    assert stack.warnings == ("slices that were there twice were dropped: 1",)


def test_doubles_that_differ_are_refused_by_name() -> None:
    slices = [header(z) for z in (0, 1, 2)]
    text = refused([*slices, header(1, name="z")], same=False)
    assert "different slices at one position (slice1 and z)" in text


@pytest.mark.parametrize(
    "name", ["AcquisitionNumber", "TemporalPosition", "ConvolutionKernel", "ImageType"]
)
def test_doubles_are_split_by_what_tells_them_apart(name: str) -> None:
    first = [header(z, name=f"a{z}", phase={name: "1"}) for z in range(4)]
    second = [header(z, name=f"b{z}", phase={name: "2"}) for z in range(5)]
    stack = build_stack(first + second, lambda one, other: False)
    assert [item.path.name for item in stack.slices] == ["b0", "b1", "b2", "b3", "b4"]
    (warning,) = stack.warnings
    assert f"those of {name} 2 (5) were taken, not those of 1 (4)" in warning


def test_doubles_are_not_split_into_crumbs() -> None:
    # Each rotation has a number of its own.
    rotations = [
        header(z, name=f"{z}{t}", phase={"AcquisitionNumber": f"{2 * z + t}"})
        for z in range(6)
        for t in range(2)
    ]
    assert "different slices at one position (00 and 01)" in refused(rotations, same=False)


def test_acquisitions_one_above_the_other_stay_one_series() -> None:
    lower = [header(z, phase={"AcquisitionNumber": "1"}) for z in (0, 1, 2)]
    upper = [header(z, phase={"AcquisitionNumber": "2"}) for z in (3, 4, 5)]
    assert len(build_stack(lower + upper).slices) == 6


@pytest.mark.parametrize("degrees", [1.0, -12.0])
def test_refuses_a_tilted_gantry_with_its_angle(degrees: float) -> None:
    shift = np.tan(np.radians(degrees))
    slices = [header(z, position=(0.0, shift * z, z)) for z in range(5)]
    assert f"the gantry was tilted by {abs(degrees):.1f} degrees" in refused(slices)


def test_refuses_slices_that_jump_in_their_plane() -> None:
    slices = [header(z, position=(3.0 * (z == 2), 0.0, float(z))) for z in range(50)]
    assert "shifted in their plane by up to 3.0 mm" in refused(slices)


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        ((1.0, 0, 0, 0, 0, -1.0), "coronal"),
        ((0, 1.0, 0, 0, 0, -1.0), "sagittal"),
        ((1.0, 0, 0, 0, 0.8, 0.6), "oblique"),
    ],
)
def test_refuses_other_planes_by_name(orientation: tuple[float, ...], plane: str) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    slices = [header(0, position=tuple(normal * k), orientation=orientation) for k in range(3)]
    assert f"the slices are {plane} (their normal is" in refused(slices)
    assert plane_name(slices[0]) == plane


def test_takes_slightly_slanted_slices_exactly() -> None:
    cos, sin = np.cos(np.radians(8)), np.sin(np.radians(8))
    orientation = (1.0, 0.0, 0.0, 0.0, round(cos, 6), round(sin, 6))
    slices = [
        header(0, position=(0.0, -sin * k, cos * k), orientation=orientation) for k in range(5)
    ]
    geometry = build_stack(slices).geometry
    assert geometry.direction == pytest.approx(
        np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]), abs=1e-6
    )
    assert geometry.direction.T @ geometry.direction == pytest.approx(np.eye(3), abs=1e-12)
    assert geometry.spacing[2] == pytest.approx(1, abs=1e-6)


def test_refuses_one_slice() -> None:
    assert "got 1 slice" in refused([header(0)])
    assert "got 1 slice" in refused([header(0), header(0, name="z")])


def test_counts_positions() -> None:
    assert count_positions([header(0), header(0, name="z"), header(1)]) == 2
    assert count_positions([header(0, position=None), header(0)]) == 2
