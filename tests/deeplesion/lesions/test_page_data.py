"""What the page is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deeplesion.lesions.page_data import page_data, records_by_number
from deeplesion.lesions.pixels import PixelFormat
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.page_material import make_document, make_lesions, make_scan

EXACT = PixelFormat()


def data_of(scan: Scan | None = None, pixels: PixelFormat = EXACT) -> dict[str, Any]:
    """Data of the page of a scan with the lesions of the material."""
    scan = scan or make_scan()
    lesions = make_lesions()
    return page_data(scan, lesions, make_document(scan, lesions), pixels)


def test_lesions_are_those_of_the_scan_and_of_the_document() -> None:
    first, second, third = data_of()["lesions"]
    assert [item["window"] for item in (first, second, third)] == ["lung", *["soft tissue"] * 2]
    assert [item["z"] for item in first["slices"]] == [8, 9, 10, 11, 12]
    assert first["key"] == 10
    assert first["long_axis"]["mm"] > 0
    assert first["measured_from"] == "mask"
    (contour,) = first["slices"][0]["contours"]
    assert len(contour) % 2 == 0
    assert min(contour[::2]) == pytest.approx(23.5, abs=0.2)


def test_lesions_without_masks_have_no_contours() -> None:
    scan = make_scan()
    lesions = [replace(lesion, masks=()) for lesion in make_lesions()]
    data = page_data(scan, lesions, make_document(scan, lesions), PixelFormat())
    assert all(item["contours"] == [] for row in data["lesions"] for item in row["slices"])
    assert {row["measured_from"] for row in data["lesions"]} == {"box"}


def test_edges_are_sides_of_the_patient() -> None:
    assert data_of()["edges"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    scan = make_scan()
    turned = np.array([[0, 0, 1], [-0.98, 0.2, 0], [0.2, 0.98, 0]], float).T
    geometry = scan.geometry
    other = Geometry(geometry.origin, geometry.spacing, turned.T, geometry.size)
    data = data_of(replace(scan, geometry=other))
    assert data["edges"] == {"left": "P", "right": "A", "top": "I", "bottom": "S"}


def test_voxels_of_the_file_are_told_where_they_differ() -> None:
    scan = make_scan()
    assert data_of(scan)["stored"] == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 23]]
    assert data_of(replace(scan, stored=scan.geometry))["stored"] is None


def test_what_was_done_to_pixels_is_told() -> None:
    assert data_of()["range"] == [-1100, 3071]
    limits = " ".join(data_of(pixels=PixelFormat(4, 2))["limits"])
    assert "HU are rounded to multiples of 4" in limits
    assert "means of 2 x 2 voxels" in limits
    assert "small" not in " ".join(data_of()["limits"])


def test_facts_are_readable() -> None:
    data = data_of()
    facts = dict(data["facts"])
    assert facts["Voxels"] == "60 \u00d7 40 \u00d7 24"
    assert facts["Voxel spacing (mm)"] == "0.7 \u00d7 1.4 \u00d7 2.5"
    made = dict(data["generator"])
    assert made["Checkpoint"] == "epoch_20.pth"
    assert made["Checkpoint SHA-256"] == "ab" * 32
    assert made["Training data"] == "unknown"
    assert made["Linking.iou"] == "0.3"


@pytest.mark.parametrize("kept", [[0, 1], [0, 1, 2, 2]])
def test_a_document_of_other_lesions_is_refused(kept: list[int]) -> None:
    scan, lesions = make_scan(), make_lesions()
    document = make_document(scan, lesions)
    with pytest.raises(ValueError, match=r"document must tell of the lesions \[.*got \[1, 2, 3\]"):
        records_by_number([lesions[index] for index in kept], document)
