"""Tests of what a scan knows of itself."""

from __future__ import annotations

import numpy as np

from deeplesion.datasets.lesion_record import DataError
from deeplesion.scans import Scan, ScanError
from deeplesion.scans.orientation import Turn
from tests.deeplesion.scans.helpers import turned_geometry


def test_voxels_as_the_file_counts_them() -> None:
    stored = turned_geometry((0, 1, 2), (-1, 1, 1), size=(5, 6, 7))
    geometry = Turn.of(stored).geometry(stored)
    scan = Scan("a", "NIfTI", np.zeros((7, 6, 5), np.int16), geometry, stored)
    # x and z run the other way in the file.
    found = scan.to_stored_voxels(np.array([[0.0, 0, 0], [1, 2, 3]]))
    assert np.allclose(found, [[4, 0, 6], [3, 2, 3]])
    assert scan.slice_interval == 1.25
    assert np.isnan(scan.thickness)


def test_tools_catch_its_error() -> None:
    assert issubclass(ScanError, DataError)
