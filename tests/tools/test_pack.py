"""The command line of tools/pack.py: what it prints, refuses, and takes up again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deeplesion.datasets.packed import DONE_FILE, list_packs
from tests.deeplesion.datasets.helpers import write_slice
from tools.pack import main


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 series of two slices."""
    path = tmp_path_factory.mktemp("tool") / "data"
    hu = np.random.default_rng(0).normal(0, 20, (128, 128)).round()
    for series in range(1, 31):
        for number in (1, 2):
            folder = path / "Images_png" / f"{series:06d}_01_01"
            write_slice(folder / f"{number:03d}.png", hu + series, (128, 128))
    return path


def arguments(root: Path, out: Path, *more: str) -> list[str]:
    return ["--data-root", str(root), "--out", str(out), *more]


def test_packs_and_verifies(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "packed"
    assert main(arguments(root, out)) == 0
    output = capsys.readouterr()
    assert output.out.startswith("60 slices of 30 series in ")
    assert "packing: 100%" in output.err
    assert main(arguments(root, out)) == 0
    assert "30 series were packed already" in capsys.readouterr().out
    assert main(arguments(root, out, "--verify")) == 0
    expected = f"60 slices verified by checksum and against {root}: 0 complaints\n"
    assert capsys.readouterr().out == expected
    path = out / "000003_01_01.ctpack"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["--out", str(out), "--verify"]) == 1
    output = capsys.readouterr()
    assert "58 slices verified by checksum: 1 complaints" in output.out
    assert "000003_01_01.ctpack: it has" in output.err


def test_a_killed_run_is_taken_up(repo_root: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    command = [sys.executable, str(repo_root / "tools/pack.py"), *arguments(root, out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.poll() is None:
        if out.is_dir() and len(list_packs(out)) > 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    finished = len(list_packs(out))
    assert 2 < finished < 30
    assert not (out / DONE_FILE).exists()
    assert main(arguments(root, out)) == 0
    assert len(list_packs(out)) == 30
    assert main(["--out", str(out), "--verify"]) == 0


def test_errors_are_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path, tmp_path / "c")) == 1
    assert capsys.readouterr().err.startswith("pack: no folder of slices such as")
    assert not (tmp_path / "c").exists()
    assert main(["--out", str(tmp_path / "c"), "--verify"]) == 1
    assert "is not there: make it by" in capsys.readouterr().err
    assert main(arguments(root, tmp_path / "c", "--workers", "0")) == 1
    assert "workers must be >= 1, got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "c")])
    assert "--data-root is needed to pack" in capsys.readouterr().err


def test_skipped_slices_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    write_slice(root / "Images_png" / "000001_01_01" / "001.png", 0)
    (root / "Images_png" / "000001_01_01" / "002.png").write_bytes(b"no png")
    assert main(arguments(root, tmp_path / "c")) == 1
    assert "pack: " in capsys.readouterr().err
    assert main(arguments(root, tmp_path / "c", "--on-error", "skip")) == 0
    assert "skipped: " in capsys.readouterr().out
