"""tools/sweep.py as a user runs it."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from tests.forked import python
from tests.tools.running import NO_WORKERS, SHORT, SMALL
from tools.sweep import main

CONFIG = SMALL.format("alignshift")


@pytest.fixture(scope="module")
def swept(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after a sweep, in which a training fails (at once, to save the minutes)."""
    folder = tmp_path_factory.mktemp("swept")
    interpreter = folder / "python"
    interpreter.write_text(
        '#!/bin/bash\ncase "$*" in *NoSuch*) echo "no such optimizer"; exit 1;; esac\n'
        f'exec {python()} "$@"\n'
    )
    interpreter.chmod(0o755)
    arguments = [
        CONFIG, "--grid", "optim_wrapper.optimizer.type=AdamW,NoSuch", "--work-dir", str(folder),
        "--data-root", str(synthetic_root), "--jobs", "2", "--cfg-options", *SHORT, *NO_WORKERS,
    ]  # fmt: skip
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(errors):
        patch.setattr(sys, "executable", str(interpreter))
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(arguments) == 1
    assert "type-NoSuch_seed0: failed: exit code 1, see" in errors.getvalue()
    return folder


def test_one_table_of_what_is_done(swept: Path) -> None:
    content = json.loads((swept / "sweep.json").read_text())
    (row,) = content["settings"]
    (done,) = swept.glob("*_type-AdamW_seed0")
    assert row["name"] == done.name.removesuffix("_seed0")
    froc = json.loads((done / "test/froc.json").read_text())
    assert row["means"] == {"0": froc["metrics"]["mean"]}
    ((name, why),) = content["unfinished"].items()
    assert why.startswith("failed: exit code 1, see ")
    assert "no such optimizer" in (swept / name / "sweep_run.log").read_text()
    assert row["name"].rpartition("_")[0] in (swept / "sweep.md").read_text().replace("\\", "")
    assert (swept / "sweep.csv").read_text().startswith("setting,seeds,sens@0.5,")


def test_dry_run_tells_what_is_left(
    swept: Path, synthetic_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        CONFIG, "--grid", "optim_wrapper.optimizer.type=AdamW,NoSuch", "--seeds", "0", "1",
        "--work-dir", str(swept), "--data-root", str(synthetic_root), "--dry-run",
        "--cfg-options", *SHORT, *NO_WORKERS,
    ]  # fmt: skip
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "4 trainings: 2 to train, 1 to go on, 1 done" in out
    assert "--seed 1" in out
    assert "tools/train.py" in out


def test_other_settings_are_refused(
    swept: Path, synthetic_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [CONFIG, "--work-dir", str(swept), "--data-root", str(synthetic_root), "--dry-run"]
    grid = ["--grid", "optim_wrapper.optimizer.type=AdamW"]
    assert main([*arguments, *grid, "--amp"]) == 1
    assert "was run with other settings (amp, options)" in capsys.readouterr().err


def test_arguments_that_do_not_go_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--jobs", "0"], ["--processes", "2", "--gpus", "0"]):
        with pytest.raises(SystemExit):
            main([CONFIG, "--work-dir", "none", *options])
    assert "gives each training one GPU" in capsys.readouterr().err
    assert not Path("none").exists()


def test_missing_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["none.py", "--work-dir", str(tmp_path)]) == 1
    assert "config none.py does not exist" in capsys.readouterr().err
