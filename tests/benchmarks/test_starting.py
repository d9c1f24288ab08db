"""What starting costs, measured in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.starting import measure_apart


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_by_workers(workers: int, synthetic_root: Path) -> None:
    found = measure_apart("masks", synthetic_root, workers, 4)
    assert 0 < found["seconds"] < 60


def test_construction(synthetic_root: Path) -> None:
    found = measure_apart("construct", synthetic_root)
    assert found["samples"] == 13
    assert min(found.values()) > 0
