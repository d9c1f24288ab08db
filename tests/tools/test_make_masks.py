"""The command line of tools/make_masks.py: what it prints, refuses, and takes up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deeplesion.datasets.synthetic.generate import SyntheticConfig, make_synthetic
from deeplesion.datasets.workers import WorkerError
from tests.forked import python
from tools import make_masks as tool
from tools.make_masks import main


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tool") / "data"
    make_synthetic(path, SyntheticConfig(patients=24, size=192, seed=4))
    return path


def start(
    repo_root: Path, *arguments: str, interpreter: str | None = None
) -> subprocess.Popen[str]:
    command = [interpreter or python(), str(repo_root / "tools/make_masks.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize(("stop", "workers"), [(signal.SIGKILL, "1"), (signal.SIGINT, "2")])
def test_a_killed_run_is_taken_up(
    repo_root: Path, root: Path, tmp_path: Path, stop: signal.Signals, workers: str
) -> None:
    whole, cut = tmp_path / "whole.json", tmp_path / "cut.json"
    arguments = ["--data-root", str(root), "--split", "train"]
    assert main([*arguments, "--out", str(whole)]) == 0
    arguments += ["--workers", workers]
    # Interrupted as a user does it: without a server between.
    process = start(repo_root, *arguments, "--out", str(cut), interpreter=sys.executable)
    while process.poll() is None:
        journals = list(tmp_path.glob("cut.json.*.partial.jsonl"))
        if journals and journals[0].read_bytes().count(b"\n") > 2:
            process.send_signal(stop)
            break
        time.sleep(0.002)
    _, error = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL), error
    assert "Traceback" not in error
    assert not cut.exists()
    (journal,) = tmp_path.glob("cut.json.*.partial.jsonl")
    finished = journal.read_bytes().count(b"\n") - 1
    assert finished >= 2
    resumed = start(repo_root, *arguments, "--out", str(cut))
    output, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert f"{finished} key slices resumed" in output
    assert cut.read_bytes() == whole.read_bytes()
    assert not journal.exists()


def test_all_splits_and_the_summary(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "masks_{split}.json")
    assert main(["--data-root", str(root), "--split", "all", "--out", out]) == 0
    output = capsys.readouterr().out
    for split in ("train", "val", "test"):
        meta = json.loads((tmp_path / f"masks_{split}.json").read_text())["meta"]
        assert meta["split"] == split
        assert f"{split}: {meta['grabcut'] + meta['ellipse']} lesions on " in output


def test_all_passes_over_a_split_without_rows(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data-root", str(shared_data / "deeplesion_mini")]
    arguments += ["--out", str(tmp_path / "{split}.json")]
    assert main([*arguments, "--split", "all"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"val.json", "test.json"}
    assert "train: no key slice of split 'train'" in capsys.readouterr().out
    assert main([*arguments, "--split", "train"]) == 1
    assert "make_masks: no key slice of split 'train'" in capsys.readouterr().err


def test_no_data_root_is_one_plain_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data-root", str(tmp_path), "--split", "val"]) == 1
    error = capsys.readouterr().err
    assert "DL_info.csv" in error
    assert error.count("\n") == 1


def test_one_file_for_all_splits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--data-root", str(tmp_path), "--split", "all", "--out", "masks.json"])
    assert "--out must hold {split}" in capsys.readouterr().err


def test_skipped_key_slices_are_listed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    (copy / "DL_info.csv").write_bytes((root / "DL_info.csv").read_bytes())
    (copy / "Images_png" / "000001_01_01").mkdir(parents=True)
    assert main(["--data-root", str(copy), "--split", "val"]) == 1
    assert "is missing (row " in capsys.readouterr().err
    assert main(["--data-root", str(copy), "--split", "val", "--on-error", "skip"]) == 0
    output = capsys.readouterr().out
    assert "0 lesions on 0 key slices" in output
    assert "skipped: " in output


def test_a_second_run_finds_them_made(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data-root", str(root), "--split", "val", "--out", str(tmp_path / "m.json")]
    for more, made in (([], False), ([], True), (["--overwrite"], False)):
        assert main([*arguments, *more]) == 0
        assert ("val: already made: " in capsys.readouterr().out) is made


def test_a_dead_worker_is_one_plain_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise WorkerError("a worker process died")

    monkeypatch.setattr(tool, "make_masks", fail)
    assert main(["--data-root", str(tmp_path), "--split", "val", "--workers", "2"]) == 1
    expected = "make_masks: a worker process died; the same command takes it up again\n"
    assert capsys.readouterr().err == expected
