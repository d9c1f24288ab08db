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
