"""Tests of what headers of slices must have, and agree on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deeplesion.scans import ScanError
from deeplesion.scans.dicom_checks import axes_of, check_alike, check_each, normal_of, plane_name
from deeplesion.scans.dicom_stack import build_stack
from tests.deeplesion.scans.helpers import header


def test_sound_headers_pass() -> None:
    slices = [header(z) for z in range(3)]
    check_each(slices)
    check_alike(slices)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position": None}, "slice1 has no ImagePositionPatient"),
        ({"orientation": None}, "slice1 has no ImageOrientationPatient"),
        ({"spacing": None}, "slice1 has no PixelSpacing"),
        ({"size": (0, 0)}, "slice1 has no Rows and Columns"),
        ({"position": (0.0, float("nan"), 1.0)}, "ImagePositionPatient must be finite"),
        ({"spacing": (0.0, 0.0)}, "PixelSpacing must be > 0 mm, got (0.0, 0.0)"),
        ({"orientation": (1.0, 0, 0, 0, 0, 0)}, "must be two unit vectors at right angles"),
        ({"slope": 0.0}, "RescaleSlope and RescaleIntercept must be finite, the slope not 0"),
        ({"unit": "ED"}, "slice1 is in ED, not in HU"),
        ({"problem": "slice1 has a damaged header"}, "slice1 has a damaged header"),
        ({"size": (9, 6)}, "mixed matrix sizes (2 of 8 x 6, 1 of 9 x 6 px)"),
        ({"spacing": (0.8, 0.8)}, "mixed pixel spacing (slice0: (0.75, 0.5) mm, slice1"),
        ({"orientation": (1.0, 0, 0, 0, 0.995, 0.0995)}, "mixed orientations (slice0 is axial"),
    ],
)
def test_refuses_headers_by_name(changes: dict[str, Any], message: str) -> None:
    slices = [header(0), header(1, **changes), header(2)]
    with pytest.raises(ScanError) as caught:
        build_stack(slices)
    assert message in str(caught.value)


def test_axes_by_hand() -> None:
    prone = header(0, orientation=(-1.0, 0, 0, 0, -1.0, 0))
    rows, columns = axes_of(prone)
    assert (rows.tolist(), columns.tolist()) == ([-1, 0, 0], [0, -1, 0])
    assert normal_of(prone).tolist() == [0, 0, 1]
    flipped = header(0, orientation=(1.0, 0, 0, 0, -1.0, 0))
    assert np.array_equal(normal_of(flipped), [0, 0, -1])


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (None, ""),
        ((0.0,) * 6, ""),
        ((1.0, 0, 0, 0, 1.0, 0), "axial"),
        ((1.0, 0, 0, 0, 0, -1.0), "coronal"),
        ((0, 1.0, 0, 0, 0, -1.0), "sagittal"),
        ((1.0, 0, 0, 0, 0.8, 0.6), "oblique"),
    ],
)
def test_planes(orientation: tuple[float, ...] | None, plane: str) -> None:
    assert plane_name(header(0, orientation=orientation)) == plane
