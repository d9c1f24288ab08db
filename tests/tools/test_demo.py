"""tools/demo.py in small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.forked import python
from tests.tools.running import run_tool
from tools.demo import keeps_promise, main


def test_demo_leaves_curve_and_overlays(tmp_path: Path) -> None:
    size = ["--patients", 6, "--size", 64, "--iters", 4]
    result = run_tool("tools/demo.py", "--work-dir", tmp_path / "demo", *size, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "demo/run/froc.png").exists()
    assert list((tmp_path / "demo/overlays").glob("*.png"))
    assert "$ python tools/train.py" in result.stdout
    assert "The demo took" in result.stdout


def test_a_failing_step_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", python())
    assert main(["--work-dir", str(tmp_path / "demo"), "--patients", "-1"]) == 1
    assert "error: make_synthetic.py failed" in capsys.readouterr().err


@pytest.mark.parametrize(("mean", "kept"), [(0.85, True), (0.849, False), (None, False)])
def test_a_poor_detector_is_called_one(
    mean: float | None, kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "froc.json").write_text(json.dumps({"metrics": {"mean": mean}}))
    assert keeps_promise(tmp_path / "froc.json") is kept
    warning = f"warning: the mean sensitivity is {mean}, below the 0.85"
    assert capsys.readouterr().err.startswith("" if kept else warning)
