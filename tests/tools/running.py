"""Running tools as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parents[2]
SMALL = str(REPO_ROOT / "configs/{0}/mask-rcnn_{0}-densenet-small_7x2mm_500it_synthetic.py")
SHORT = [
    "train_cfg.max_iters=3",
    "train_cfg.val_interval=3",
    "default_hooks.checkpoint.interval=3",
    "default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
    "param_scheduler.1.end=3",
]


def run_tool(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of the repository (.py or .sh) in some folder."""
    name, *rest = map(str, arguments)
    command = [sys.executable] if name.endswith(".py") else ["bash"]
    return subprocess.run(
        [*command, str(REPO_ROOT / name), *rest],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=600,
    )


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a tool tells its user what is wrong."""
    assert result.returncode == 1, result.stderr[-3000:]
    assert "Traceback" not in result.stderr
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error:")]
    return line
