"""Tests of telling formats by content."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from deeplesion.scans import ScanError
from deeplesion.scans.formats import files_below, is_utf8, safe_name, sniff, stem_of
from tests.deeplesion.scans.helpers import write_image

VOXELS = np.zeros((2, 3, 4), np.int16)


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("a.nii", "NIfTI"),
        ("a.nii.gz", "NIfTI"),
        ("a.mha", "MetaImage"),
        ("a.mhd", "MetaImage"),
        ("a.nrrd", "NRRD"),
        ("a.nhdr", "NRRD"),
    ],
)
def test_formats_whatever_the_name(tmp_path: Path, written: str, kind: str) -> None:
    path = write_image(tmp_path / written, VOXELS).rename(tmp_path / "anything.txt")
    assert sniff(path) == kind


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (bytes(128) + b"DICM" + bytes(9), "DICOM"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"NRRD0004\n", "NRRD"),
        (b"hello", ""),
        (b"\x08\x00\x05\x00", ""),
    ],
)
def test_formats_by_first_bytes(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(content)
    assert sniff(path) == kind


def test_empty_and_truncated_files(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.touch()
    with pytest.raises(ScanError, match=r"a\.nii\.gz is empty"):
        sniff(path)
    path.write_bytes(gzip.compress(bytes(1000))[:14])
    with pytest.raises(ScanError, match="truncated or damaged"):
        sniff(path)


def test_which_names_are_utf8() -> None:
    assert is_utf8(Path("日本"))
    assert not is_utf8(Path(os.fsdecode(b"\xfc")))


def test_files_below_a_folder(tmp_path: Path) -> None:
    for name in ("b/2", "b/.hidden", ".git/x", "a", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "broken").symlink_to("nowhere")
    assert [str(path.relative_to(tmp_path)) for path in files_below(tmp_path)] == [
        "a",
        "b/1",
        "b/2",
    ]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.nii.gz", "scan"),
        ("scan.NII.GZ", "scan"),
        ("scan.v2.mha", "scan.v2"),
        ("1.2.840.113", "1.2.840.113"),
        ("IM0001", "IM0001"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem


def test_a_folder_has_no_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "Doe.Jane"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert stem_of(folder) == "Doe.Jane"
    assert stem_of(Path()) == "Doe.Jane"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Doe^Jane / CT", "Doe_Jane_CT"),
        ("../../etc", "etc"),
        ("Müller 3", "Müller_3"),
        ("-rf", "rf"),
        ("???", "scan"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_are_safe_for_files(text: str, name: str) -> None:
    assert safe_name(text) == name
