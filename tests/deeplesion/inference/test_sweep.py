"""Slices in memory while a scan is looked at."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.inference import LesionDetector
from deeplesion.inference.sweep import Sweep
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan
from tests.deeplesion.inference.blobs import write_blob_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> LesionDetector:
    """Of stacks of 3 slices."""
    return LesionDetector(*write_blob_detector(tmp_path_factory.mktemp("blobs"), 32), "cpu")


def most_in_memory(detector: LesionDetector, slices: int, interval: float, batch: int) -> int:
    """The most slices that are kept from one batch to the next."""
    geometry = Geometry(np.zeros(3), np.array([1, 1, interval]), np.eye(3), (16, 16, slices))
    scan = Scan("scan", "NIfTI", np.zeros((slices, 16, 16), np.int16), geometry, geometry)
    sweep = Sweep(detector.network, detector.pipeline, scan, range(slices), batch, 0.1)
    return max(len(sweep.features) for _ in sweep)


# Slices of 0.8 mm are interpolated 2.5 slices off, which stacks 5 slices apart share.
@pytest.mark.parametrize(("interval", "most"), [(5.0, 2), (0.8, 10)])
@pytest.mark.parametrize("batch", [1, 3])
def test_no_more_are_kept_of_a_longer_scan(
    detector: LesionDetector, interval: float, most: int, batch: int
) -> None:
    short, long = (most_in_memory(detector, slices, interval, batch) for slices in (20, 40))
    assert 0 < short == long <= most


def test_nothing_is_kept_at_the_end(detector: LesionDetector) -> None:
    geometry = Geometry(np.zeros(3), np.ones(3), np.eye(3), (16, 16, 5))
    scan = Scan("scan", "NIfTI", np.zeros((5, 16, 16), np.int16), geometry, geometry)
    sweep = Sweep(detector.network, detector.pipeline, scan, [1, 2], 1, 0.1)
    assert [found.z for found in sweep] == [1, 2]
    assert not sweep.features
