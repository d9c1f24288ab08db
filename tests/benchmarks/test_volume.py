"""benchmarks/volume.py: what is compared, and that both find the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.volume import Times, check_same, main, make_figures, to_markdown
from benchmarks.volume_worker import lengthened, make_scan, middle_slices
from deeplesion.scans import read_scan
from tests.deeplesion.inference.detectors import write_mask_rcnn
from tests.forked import python


def findings(path: Path, **changes: np.ndarray) -> Path:
    """What a worker writes."""
    masks = np.zeros((2, 100, 100), bool)
    masks[:, 10:20, 10:20] = True
    content = {"z": np.array([3, 4]), "boxes": np.ones((2, 4)), "scores": np.array([0.5, 0.6])}
    np.savez(path, **{**content, "masks": masks, **changes})
    return path.with_suffix(".npz")


def test_the_same_findings_pass(tmp_path: Path) -> None:
    masks = np.zeros((2, 100, 100), bool)
    masks[:, 10:20, 10:20] = True
    masks[0, 10, 10] = False  # one pixel of 20,000
    other = findings(tmp_path / "b", boxes=np.ones((2, 4)) + 5e-5, masks=masks)
    check_same(findings(tmp_path / "a"), other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.array([0.5, 0.601])}, "scores differ by 0.001"),
        ({"z": np.array([3])}, r"z are \(2,\) and \(1,\)"),
        ({"masks": np.zeros((2, 100, 100), bool)}, "masks differ by 0.01"),
    ],
)
def test_other_findings_do_not(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        check_same(findings(tmp_path / "a"), findings(tmp_path / "b", **changes))


def test_ratios_are_of_turns_and_beside_their_bars() -> None:
    speed, memory = make_figures(
        Times([1.0, 2.0, 1.0], [2.0, 3.0, 1.6]), [10**8, 2 * 10**8], (4, 9)
    )
    assert speed.value == pytest.approx(2.0)
    assert speed.spread == pytest.approx((1.55, 1.8))
    assert speed.holds
    assert memory.value == pytest.approx(2.0)
    assert not memory.holds
    table = to_markdown([speed, memory], {"threads": 2})
    assert "| 1.00 s | key slice by key slice: 2.00 s | 2.00 (1.55-1.80) | >= 1.5 |" in table
    assert "| <= 1.1, missed |" in table


def test_scans_are_lengthened_by_their_own_slices(tmp_path: Path) -> None:
    scan = read_scan(make_scan(tmp_path / "phantom.nii.gz"))
    longer = lengthened(scan, 50)
    assert longer.hu.shape == (50, *scan.hu.shape[1:])
    assert np.array_equal(longer.hu[40:], scan.hu[:10])
    assert longer.geometry.size[2] == 50
    assert middle_slices(scan, 3) == [18, 19, 20]


def test_measures_a_small_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", python())
    config, _ = write_mask_rcnn(tmp_path)
    options = ["--slices", "3", "--repeat", "1", "--threads", "1", "--memory-slices", "3", "6"]
    main(["--config", str(config), "--out", str(tmp_path / "out"), *options])
    figures = json.loads((tmp_path / "out/volume.json").read_text())["figures"]
    assert [figure["key"] for figure in figures] == ["volume", "volume_memory"]
    assert all(figure["ours"] > 0 for figure in figures)
    assert "| what | ours |" in (tmp_path / "out/volume.md").read_text()
