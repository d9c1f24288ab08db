"""The benchmark of FROC, at a tiny size, and the loop over boxes that it compares with."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks import froc
from benchmarks.baseline.froc import (
    froc_curve,
    ious_of_arrays,
    ious_of_numbers,
    sensitivity_at,
)
from benchmarks.froc import Result, Settings, make_boxes
from tests.forked import python

TINY = ("--images", "40", "--boxes", "6", "--many-images", "60", "--repeat", "2")
RESULT = Result([0.02, 0.03, 0.04], [3.0, 3.0, 3.0], [0.9, 0.9, 0.9], [10**7, 2 * 10**7], 1.5, 3.0)


def test_the_loop_by_hand() -> None:
    hit, far, other = [0, 0, 9, 9], [50, 50, 59, 59], [20, 20, 29, 29]
    # By score: a hit, a false positive, the same lesion again, and the other lesion.
    detections = [[[*hit, 0.9], [*far, 0.8], [0, 0, 9, 8, 0.7]], [[*other, 0.5]]]
    lists = froc_curve(detections, [[hit], [other]], ious_of=ious_of_numbers)
    assert lists == ([0.5, 0.5, 0.5, 1.0], [0, 0.5, 0.5, 0.5])
    arrays = [np.array(part) for part in detections], [np.array([hit]), np.array([other])]
    assert froc_curve(*arrays) == lists
    assert sensitivity_at([0.5, 1.0], [0.5, 1.0], (0.25, 0.5, 0.75, 1, 2)) == [0, 0.5, 0.75, 1, 1]


def test_overlaps_by_hand() -> None:
    lesions = [[0, 0, 9, 4], [9, 9, 18, 18], [10, 0, 19, 9]]
    expected = [0.5, 1 / 199, 0]
    assert ious_of_numbers([0, 0, 9, 9], lesions) == expected
    assert ious_of_arrays(np.array([0, 0, 9, 9]), np.array(lesions)).tolist() == expected


def test_boxes_are_like_those_of_the_test_split() -> None:
    detections, lesions = make_boxes(2000, 5, seed=0)
    assert {rows.shape for rows in detections} == {(5, 5)}
    assert {len(rows) for rows in lesions} == {1, 2}
    assert 2020 < sum(map(len, lesions)) < 2070
    corners = np.concatenate(detections)[:, :4]
    assert np.all(corners[:, :2] <= corners[:, 2:])
    again, _ = make_boxes(2000, 5, seed=0)
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(detections))
    sensitivity, fps_per_image, _ = froc.ours(detections, lesions)
    assert 0.2 < sensitivity[-1] < 0.9
    assert fps_per_image[-1] > 3


def test_run_gives_a_table(repo_root: Path, tmp_path: Path) -> None:
    script = repo_root / "benchmarks" / "froc.py"
    result = subprocess.run(
        [python(), str(script), *TINY, "--out", "out"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    text = (tmp_path / "out" / "froc.md").read_text()
    assert text in result.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"froc.json", "froc.md"}
    content = json.loads((tmp_path / "out" / "froc.json").read_text())
    assert content["settings"]["images"] == 40
    assert content["machine"]["numpy"] == np.__version__
    assert content["bars"] == []
    assert [len(content["result"][f"{name}seconds"]) for name in ("", "loop_", "plain_")] == [2] * 3
    small, large = content["result"]["bytes_at_peak"]
    assert 0 < small < large


def test_memory_is_linear_in_boxes() -> None:
    given = [make_boxes(images, 20, seed=0) for images in (1000, 2000, 4000)]
    froc.ours(*given[0])
    peaks = [froc.peak_bytes(lambda part=part: froc.ours(*part)) for part in given]
    # Twice the boxes add what twice as many add before; less than 300 bytes a box in all.
    assert 1.7 < (peaks[2] - peaks[1]) / (peaks[1] - peaks[0]) < 2.3
    assert peaks[2] < 300 * 4000 * 20


def test_table_and_bars() -> None:
    settings = Settings()
    lines = froc.markdown(RESULT, settings).splitlines()
    assert lines[2] == "| ours | 4817 | 30.0 (25.0-35.0) | | 10.0 |"
    assert lines[3:5] == ["| ours | 9634 | | | 20.0 |", "| ours | 100000 | 1500 | | |"]
    assert lines[5] == "| intervals | 4817 | 3000 | | |"
    assert lines[6] == (
        "| loop over boxes | 4817 | 3000.0 (3000.0-3000.0) | 100.00 (87.50-125.00) | |"
    )
    assert froc.bars(RESULT, settings) == [
        "bar: 0.030 s (<= 0.1 s): holds",
        "bar: 100 x the loop (>= 50): holds",
        "bar: 2.00 x the memory for 2 x the boxes (<= 2.1): holds",
        "bar: 1.50 s for 100000 images (<= 5 s): holds",
        "bar: 3.00 s for intervals (<= 20 s): holds",
    ]
    slow = RESULT._replace(seconds=[0.2], loop_seconds=[3.0])
    assert froc.bars(slow, settings)[:2] == [
        "bar: 0.200 s (<= 0.1 s): MISSED",
        "bar: 15 x the loop (>= 50): MISSED",
    ]
    assert froc.bars(RESULT, Settings(images=10)) == []


def test_different_results_are_an_error() -> None:
    same = [0.5], [1.0], [0.25]
    froc.check_same(same, same)
    with pytest.raises(RuntimeError, match="ours and the loop over boxes differ in figures"):
        froc.check_same(same, ([0.5], [1.0], [0.3]))


def test_bad_arguments_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        froc.parse_args(["--many-images", "0"])
    assert re.search("--many-images must be >= 1, got 0", capsys.readouterr().err)


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        froc.parse_args(["--help"])
    assert "python benchmarks/froc.py --out" in capsys.readouterr().out
