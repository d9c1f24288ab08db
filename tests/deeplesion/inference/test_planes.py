"""Which slices stacks are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.datasets.ct import load_volume, resample_positions
from deeplesion.engine.config import UsageError
from deeplesion.inference.planes import Plane, choose_key_slices, plane_hu, stack_planes
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan
from tests.deeplesion.datasets.helpers import write_slice

DEPTH = 9


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    """A small scan."""
    return np.random.default_rng(0).integers(-1000, 1000, (DEPTH, 3, 4)).astype(np.int16)


@pytest.fixture(scope="module")
def folder(hu: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scan in slice files, numbered from 1."""
    root = tmp_path_factory.mktemp("slices")
    for index, plane in enumerate(hu, start=1):
        write_slice(root / "000001_01_01" / f"{index:03d}.png", plane.astype(int), (3, 4))
    return root


@settings(deadline=None, max_examples=60)
@given(
    key=st.integers(0, DEPTH - 1),
    interval=st.floats(0.3, 6),
    mode=st.sampled_from(["thin", "always"]),
    legacy=st.booleans(),
)
def test_stacks_are_those_of_the_data_set(
    hu: np.ndarray, folder: Path, key: int, interval: float, mode: str, legacy: bool
) -> None:
    offsets = resample_positions(7, interval, 2.0, mode, legacy)
    wanted = load_volume(folder, "000001_01_01", key + 1, offsets, legacy=legacy)
    planes = stack_planes(key, DEPTH, offsets, legacy)
    stack = np.stack([plane_hu(hu, plane) for plane in planes], -1)
    np.testing.assert_allclose(stack, wanted, atol=1e-3)


def test_neighboring_stacks_share_planes() -> None:
    offsets = np.array([-1.5, 0, 1.5])
    assert stack_planes(4, DEPTH, offsets) == (
        Plane(2, 3, 0.5),
        Plane(4, 4, 0.0),
        Plane(5, 6, 0.5),
    )
    assert stack_planes(7, DEPTH, offsets)[0] == Plane(5, 6, 0.5)


def test_end_slices_are_repeated() -> None:
    assert stack_planes(0, DEPTH, np.array([-1.5, 0, 1.0])) == (
        Plane(0, 0, 0.0),
        Plane(0, 0, 0.0),
        Plane(1, 1, 0.0),
    )
    assert stack_planes(DEPTH - 1, DEPTH, np.array([-1.0, 0, 0.5]))[2] == Plane(8, 8, 0.0)


@pytest.mark.parametrize("plane", [Plane(2, 2, 0.0), Plane(2, 3, 0.5)])
def test_planes_are_copies(plane: Plane) -> None:
    hu = np.zeros((4, 2, 3), np.float32)
    plane_hu(hu, plane)[:] = 1
    assert not hu.any()


def scan_of(slices: int, interval: float) -> Scan:
    """A scan of nothing."""
    geometry = Geometry(np.zeros(3), np.array([1, 1, interval]), np.eye(3), (2, 2, slices))
    return Scan("scan", "NIfTI", np.zeros((slices, 2, 2), np.int16), geometry, geometry)


@pytest.mark.parametrize(
    ("slices", "stride", "expected"),
    [
        (None, None, list(range(10))),
        (None, 2.0, [0, 3, 6, 9]),  # 2 mm are 2.9 slices of 0.7 mm
        (None, 0.1, list(range(10))),
        (slice(2, 6), None, [2, 3, 4, 5]),
        (slice(2, None), 2.0, [2, 5, 8]),
        (slice(-3, None), None, [7, 8, 9]),
        ([5, 1, 5], None, [1, 5]),
    ],
)
def test_key_slices(slices: object, stride: float | None, expected: list[int]) -> None:
    assert choose_key_slices(scan_of(10, 0.7), slices, stride) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slices", "stride", "message"),
    [
        (slice(4, 12), None, "slices 4:12 are out of range: the scan has 10 slices, 0:10"),
        (slice(10, None), None, "slices 10: are out of range"),
        (slice(5, 5), None, "slices 5:5 are out of range"),
        ([3, 10], None, "slices must be within 0 to 9 of scan, got"),
        ([], None, "slices must be within 0 to 9"),
        ([3], 2.0, "a stride goes with a range of slices"),
        (None, 0.0, "stride must be > 0 mm, got 0"),
        (None, float("nan"), "stride must be > 0 mm, got nan"),
    ],
)
def test_key_slices_that_are_not_there(slices: object, stride: float | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_key_slices(scan_of(10, 0.7), slices, stride)  # type: ignore[arg-type]
