"""tools/demo.py in small."""

from __future__ import annotations

from pathlib import Path

from tests.tools.running import run_tool


def test_demo_leaves_curve_and_overlays(tmp_path: Path) -> None:
    size = ["--patients", 6, "--size", 64, "--iters", 4]
    result = run_tool("tools/demo.py", "--work-dir", tmp_path / "demo", *size, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "demo/run/froc.png").exists()
    assert list((tmp_path / "demo/overlays").glob("*.png"))
    assert "$ python tools/train.py" in result.stdout
    assert "The demo took" in result.stdout


def test_a_failing_step_is_named(tmp_path: Path) -> None:
    result = run_tool(
        "tools/demo.py", "--work-dir", tmp_path / "demo", "--patients", -1, cwd=tmp_path
    )
    assert result.returncode == 1
    assert "error: make_synthetic.py failed" in result.stderr
