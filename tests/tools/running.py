"""Running tools as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.forked import python

REPO_ROOT = Path(__file__).resolve().parents[2]
SMALL = str(REPO_ROOT / "configs/{0}/mask-rcnn_{0}-densenet-small_7x2mm_500it_synthetic.py")
ITERS = 2
SHORT = [
    f"train_cfg.max_iters={ITERS}",
    f"train_cfg.val_interval={ITERS}",
    f"default_hooks.checkpoint.interval={ITERS}",
    "default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=1",
    f"param_scheduler.1.end={ITERS}",
]
NO_WORKERS = [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
experiments = count()


def run_tool(
    *arguments: object, cwd: Path, fresh: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool of the repository (.py or .sh) in some folder.

    Args:
        *arguments: The tool and its arguments.
        cwd: The folder.
        fresh: Begin with a new interpreter, as a user does, instead of with one that has imported
            what takes long, see :mod:`tests.forked`. Every tool has a test that does.
        **env: Variables of the environment beside those of this process.
    """
    name, *rest = map(str, arguments)
    interpreter = sys.executable if fresh else python()
    command = [interpreter] if name.endswith(".py") else ["bash"]
    return subprocess.run(
        [*command, str(REPO_ROOT / name), *rest],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": interpreter, **env},
        capture_output=True,
        text=True,
        timeout=600,
    )


def call_tool(main: Callable[[list[str]], int], *arguments: object, options: list[str]) -> int:
    """Run a tool in this process.

    mmengine names a run by the second in which it begins, and here several begin in one.
    """
    unique = f"experiment_name=test_{next(experiments)}"
    return main([*map(str, arguments), "--cfg-options", unique, *options])


def error_line(error_output: str) -> str:
    """The one line with which a tool tells its user what is wrong."""
    assert "Traceback" not in error_output
    (line,) = [text for text in error_output.splitlines() if text.startswith("error:")]
    return line


def called_in_vain(
    main: Callable[[list[str]], int],
    *arguments: object,
    capsys: pytest.CaptureFixture[str],
    options: list[str] = NO_WORKERS,
) -> str:
    """Run a tool in this process that is to fail; its one line."""
    assert call_tool(main, *arguments, options=options) == 1
    return error_line(capsys.readouterr().err)
