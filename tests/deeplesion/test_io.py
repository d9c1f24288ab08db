"""Tests of atomic writing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from deeplesion.io import atomic_write, write_json


def test_file_appears_whole_and_parents_are_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("done")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix == ".txt"
    assert target.read_text() == "done"
    assert list(target.parent.iterdir()) == [target]


def test_a_durable_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, synced = tmp_path / "out.txt", []

    def fsync(handle: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{handle}")), target.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(target, durable=True) as temporary:
        temporary.write_text("done")
    assert synced == [(temporary, False), (tmp_path, True)]
    with atomic_write(target) as temporary:
        temporary.write_text("done")
    assert len(synced) == 2


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def fail_midway() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_new_file_follows_the_umask_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    previous = os.umask(0o027)
    try:
        with atomic_write(target) as temporary:
            temporary.write_text("1")
    finally:
        os.umask(previous)
    assert target.stat().st_mode & 0o777 == 0o640
    target.chmod(0o604)
    with atomic_write(target) as temporary:
        temporary.write_text("2")
    assert target.stat().st_mode & 0o777 == 0o604


def test_json_takes_numpy_and_paths(tmp_path: Path) -> None:
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": Path("x"), "d": math.nan, "e": (1,)}
    write_json(tmp_path / "x.json", value)
    read = json.loads((tmp_path / "x.json").read_text())
    assert math.isnan(read.pop("d"))
    assert read == {"a": 0.5, "b": [0, 1, 2], "c": "x", "e": [1]}


def test_json_refuses_other_objects_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="cannot write a set as JSON"):
        write_json(tmp_path / "x.json", {1, 2})
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target = tmp_path / "store" / "real.json"
    target.parent.mkdir()
    target.write_text("old")
    link = tmp_path / "out.json"
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_strict_json_refuses_nan_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": [1.0, math.inf]}, allow_nan=False)
    assert not list(tmp_path.iterdir())
