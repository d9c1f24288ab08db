"""All benchmarks in one run, at a tiny size, and what it makes of other implementations."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import run
from benchmarks.figures import Figure
from tests.forked import python
from tests.tools.running import REPO_ROOT

HELD = Figure("a", "work a", "s", 1.0, 3.0, "textbook", "speedup", 2.0)
MISSED = Figure("b", "work b", "s", 2.0, 3.0, "textbook", "speedup", 2.0)
FREE = Figure("c", "work c", "s", 2.0, 3.0, "textbook", "speedup")


def printing(text: str) -> str:
    """A command that prints a text."""
    return shlex.join([sys.executable, "-c", f"print('hello'); print({text!r})"])


def test_runs_as_a_script_against_another(tmp_path: Path) -> None:
    options = ["--only", "froc", "--froc-images", "40", "--rounds", "2", "--threads", "1"]
    command = [python(), "benchmarks/run.py", *options, "--out", str(tmp_path)]
    command += ["--against", printing('{"froc": 9.0, "other": 1}')]
    result = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "run.json").read_text())
    figure = record["figures"]["froc"]
    assert figure["value"] == pytest.approx(figure["reference"] / figure["ours"])
    assert record["machine"]["torch"]
    assert record["against"] == {"froc": 9.0, "other": 1.0}
    text = (tmp_path / "run.md").read_text()
    assert "FROC of 40 images" in text
    assert "| 9 s |" in text
    assert text.strip() in result.stdout


def test_summary_names_what_was_missed() -> None:
    assert (
        run.summary([HELD, MISSED, FREE]) == "1 of 2 measured bars hold; missed: work b: 1.50 of 2"
    )
    assert run.summary([HELD]) == "1 of 1 measured bars hold"


def test_theirs_stand_beside_ours() -> None:
    table = run.beside([HELD, MISSED], {"b": 5.0, "other": 1.0})
    assert table.startswith("not measured here: other\n")
    assert "| work b | 2 s | 5 s | 2.50 |" in table
    assert "work a" not in table


@pytest.mark.parametrize("text", ["", "nothing", "[1]", '{"a": "fast"}', '{"a": true}'])
def test_a_command_that_prints_no_numbers_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="must be a JSON object of numbers"):
        run.run_against(printing(text))


def test_a_command_that_fails_is_named() -> None:
    command = shlex.join([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SystemExit, match="exited with 3"):
        run.run_against(command)


def test_bad_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.parse_args(["--rounds", "0"])
    assert "--rounds must be >= 1, got 0" in capsys.readouterr().err
