"""Folders of findings take the place of findings only."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.config import UsageError
from deeplesion.inference.folders import check_apart, check_replaceable, new_folder


def files_of(folder: Path, *names: str) -> Path:
    """A folder that holds empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


FINDINGS = ("lesions.json", "lesions.csv", "run.json", "lesions.dcm", "overlays/lesion_01.png")


def test_findings_and_what_is_empty_are_replaceable(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "nothing")
    check_replaceable(tmp_path)
    check_replaceable(files_of(tmp_path / "out", *FINDINGS))
    check_replaceable(files_of(tmp_path / "more", *FINDINGS, "more.json"), {"more.json"})


@pytest.mark.parametrize(
    "stranger", ["IM0001.dcm", "notes/thesis.tex", "overlays/mine.xcf", ".hidden"]
)
def test_findings_with_anything_beside_them_are_not(tmp_path: Path, stranger: str) -> None:
    folder = files_of(tmp_path / "out", *FINDINGS, stranger)
    named = stranger.replace("notes/thesis.tex", "notes")
    with pytest.raises(UsageError, match=f"does not hold findings alone .* move .*{named} "):
        check_replaceable(folder)


def test_names_that_others_have_too_do_not_make_findings(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"move .*lesions\.nii\.gz elsewhere"):
        check_replaceable(files_of(tmp_path / "out", "lesions.nii.gz"))


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("data/CT", "data/CT"),
        ("data", "data/CT"),
        ("data/CT/out", "data/CT"),
        ("link/out", "data/CT"),
        ("data", "data/CT/1.dcm"),
        ("data/CT/../../data", "data/CT"),
    ],
)
def test_findings_stay_apart_from_scans(tmp_path: Path, target: str, source: str) -> None:
    files_of(tmp_path, "data/CT/1.dcm")
    (tmp_path / "link").symlink_to(tmp_path / "data/CT")
    with pytest.raises(UsageError, match=r"findings cannot go to .*: give another folder"):
        check_apart(tmp_path / target, [tmp_path / "other", tmp_path / source])
    check_apart(tmp_path / "data/CT2", [tmp_path / "data/CT", tmp_path / "data/CT/1.dcm"])


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_things_as_they_were(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "out"
    if there:
        files_of(target, "old")

    def fail() -> None:
        with new_folder(target, overwrite=True) as folder:
            (folder / "half").touch()
            raise DataError("no")

    with pytest.raises(DataError, match="no"):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == (["out", "old"] if there else [])


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def race() -> None:
        with new_folder(target):
            files_of(target, "theirs")

    with pytest.raises(UsageError, match="out exists"):
        race()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_the_old_folder_is_put_back_where_the_new_one_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = files_of(tmp_path / "out", "old"), Path.rename

    def refuse_new(path: Path, other: Path) -> Path:
        if path.name == "new":
            raise PermissionError("no right")
        return rename(path, other)

    def replace() -> None:
        with new_folder(target, overwrite=True):
            monkeypatch.setattr(Path, "rename", refuse_new)

    with pytest.raises(PermissionError, match="no right"):
        replace()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]
