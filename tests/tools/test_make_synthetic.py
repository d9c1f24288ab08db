"""The command line of tools/make_synthetic.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.make_synthetic import main


def test_writes_a_data_set_and_a_summary(repo_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repo_root / "tools/make_synthetic.py")]
    command += [
        "--out",
        str(tmp_path / "data"),
        "--patients",
        "4",
        "--size",
        "64",
        "--workers",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(repo_root)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "patients" in done.stdout
    assert "4/4" in done.stderr
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {
        "DL_info.csv",
        "Images_png",
        "masks_true_train.json",
        "masks_true_val.json",
        "masks_true_test.json",
        "meta.json",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--patients", "-3"], "patients must be 3"),
        (["--size", "7"], "size must be 64 to 512 px, got 7"),
        (["--seed", "-1"], "seed must be >= 0, got -1"),
        (["--workers", "0"], "workers must be >= 1, got 0"),
    ],
)
def test_errors_are_one_plain_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "data"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("make_synthetic: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("x")
    assert main(["--out", str(tmp_path), "--patients", "3", "--size", "64"]) == 1
    assert "is not empty" in capsys.readouterr().err
