"""Many scans in one run."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest

from deeplesion.engine.config import UsageError
from deeplesion.inference.findings import LeftOutWarning
from deeplesion.inference.folders import RUN_FILE
from deeplesion.inference.runs import (
    Outcome,
    fingerprint,
    folder_names,
    is_done,
    noting_left_out,
    summary,
)

LESION = {
    "number": 1,
    "score": 0.91,
    "key_slice": 42,
    "long_axis": {"mm": 12.34},
    "short_axis": {"mm": 8.5},
    "volume_mm3": 1234.4,
    "center": {"lps_mm": [1.0, -2.0, 3.0]},
}


def test_folders_are_named_as_the_scans() -> None:
    sources = [Path("a/ct.nii.gz"), Path("b/other"), Path("c/ct.nrrd")]
    assert folder_names(sources) == ["a_ct", "other", "c_ct"]


def test_where_links_lead_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DOE_Jane").mkdir()
    (tmp_path / "DOE_Jane/4711.nii.gz").touch()
    (tmp_path / "case1").symlink_to("DOE_Jane")
    (tmp_path / "case2.nii.gz").symlink_to("DOE_Jane/4711.nii.gz")
    monkeypatch.chdir(tmp_path)
    sources = [Path("case1"), Path("case2.nii.gz")]
    assert folder_names(sources) == ["case1", "case2"]
    assert folder_names([Path("case1/x"), Path("b/x")]) == ["case1_x", "b_x"]
    with pytest.raises(UsageError, match=r"DOE_Jane is given twice"):
        folder_names([Path("case1"), Path("DOE_Jane")])
    monkeypatch.chdir(tmp_path / "DOE_Jane")
    for here in (".", "", "../case1/."):
        assert folder_names([Path(here)]) == ["case1" if "case1" in here else "DOE_Jane"]
    assert folder_names([Path("../case1/..")]) == [tmp_path.name]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["a/ct", "a/../a/ct"], "a/ct is given twice"),
        (["1/a/ct", "2/a/ct"], "would both go to a_ct"),
    ],
)
def test_scans_that_cannot_be_told_apart(sources: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folder_names([Path(source) for source in sources])


def test_fingerprint_follows_files_and_settings(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = fingerprint(tmp_path, {"stride": 1})
    assert fingerprint(tmp_path, {"stride": 1}) == first
    assert fingerprint(tmp_path, {"stride": 2}) != first
    assert fingerprint(tmp_path / "a", {"stride": 1}) != first
    assert fingerprint([tmp_path / "a", tmp_path / "b"], {"stride": 1}) == first
    os.utime(tmp_path / "b", (0, 0))
    assert fingerprint(tmp_path, {"stride": 1}) != first


def test_fingerprint_follows_detached_voxels_and_the_table_of_spacing(tmp_path: Path) -> None:
    header, slices = tmp_path / "a.mhd", tmp_path / "png/1"
    header.write_text("ElementDataFile = a.raw")
    slices.mkdir(parents=True)
    (slices / "001.png").touch()
    sources = (header, slices, [slices / "001.png"])
    before = [fingerprint(source, {}) for source in sources]
    for name in ("a.raw", "DL_info.csv"):
        (tmp_path / name).write_text("1")
    there = [fingerprint(source, {}) for source in sources]
    for name in ("a.raw", "DL_info.csv"):
        os.utime(tmp_path / name, (0, 0))
    after = [fingerprint(source, {}) for source in sources]
    for marks in zip(before, there, after, strict=True):
        assert len(set(marks)) == 3


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fingerprint": "other"}'])
def test_only_the_same_run_counts_as_done(tmp_path: Path, content: str) -> None:
    assert not is_done(tmp_path, "mark")
    (tmp_path / RUN_FILE).write_text(content)
    assert not is_done(tmp_path, "mark")
    (tmp_path / RUN_FILE).write_text(json.dumps({"fingerprint": "mark"}))
    assert is_done(tmp_path, "mark")


def test_what_was_left_out_is_noted_and_other_warnings_go_on() -> None:
    def write() -> list[str]:
        with noting_left_out() as notes:
            warnings.warn("no report", LeftOutWarning, stacklevel=1)
            warnings.warn("another", UserWarning, stacklevel=1)
        return notes

    with pytest.warns(UserWarning, match="another"):
        assert write() == ["no report"]


def test_summary_tells_lesions_and_what_is_done() -> None:
    lesions = tuple({**LESION, "number": number} for number in range(1, 23))
    outcomes = [
        Outcome(Path("out/a"), "done", "", 61.4, 120, ("slice 7 was there twice",), lesions),
        Outcome(Path("out/b"), "done", slices=3),
        Outcome(Path("out/c"), "skipped"),
        Outcome(Path("out/d"), "failed", "no"),
    ]
    text = summary(outcomes)
    assert "a: 22 lesions in 120 key slices, 61 s, see out/a\n  note: slice 7 was" in text
    assert "1  0.910     42       12.3 x 8.5         1234   1.0, -2.0, 3.0" in text
    assert "... and 2 more in lesions.csv" in text
    assert "b: no lesions in 3 key slices" in text
    assert "out/c: done before with the same settings, skipped" in text
    assert text.endswith("3 of 4 scans are done")
    assert "scans are done" not in summary(outcomes[:1])
