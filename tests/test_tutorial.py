"""The tutorial works as it stands: its blocks are run one after another, with little data."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.forked import python
from tests.test_readme import ENVIRONMENT, FENCE, REPO_ROOT, TIMEOUT_S

TUTORIAL = REPO_ROOT / "docs/tutorial.md"
ITERS = 4
# Each must stand in the commands: a size that is no longer there would not be made small.
SMALLER = {"--patients 250": "--patients 6", "--size 128": "--size 64", "_500.": f"_{ITERS}."}
SHORTER = [
    "--cfg-options",
    f"train_cfg.max_iters={ITERS}",
    f"train_cfg.val_interval={ITERS}",
    f"default_hooks.checkpoint.interval={ITERS}",
    "default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2",
    "param_scheduler.0.end=2",
    "param_scheduler.1.begin=2",
    f"param_scheduler.1.end={ITERS}",
]
# A block that begins so is a file to be saved under that name.
FILE_NAME = re.compile(r"# ([\w-]+\.py)\n")


def as_python(commands: str) -> str:
    """A block of commands, made small, as lines of Python."""
    for large, small in SMALLER.items():
        commands = commands.replace(large, small)
    lines = ["import subprocess"]
    for line in commands.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "python"
        shorter = SHORTER if arguments[0] == "tools/train.py" else []
        lines.append(f"subprocess.run({[python(), *arguments, *shorter]}, check=True)")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tutorial was gone through, with the repository's tools and configs."""
    root = tmp_path_factory.mktemp("tutorial")
    for name in ("configs", "tools"):
        os.symlink(REPO_ROOT / name, root / name)
    script = ""
    for language, block in FENCE.findall(TUTORIAL.read_text(encoding="utf-8")):
        if language == "bash":
            script += as_python(block)
        elif language == "python" and (name := FILE_NAME.match(block)):
            (root / name[1]).write_text(block, encoding="utf-8")
        elif language == "python":
            script += block
    (root / "script.py").write_text(script, encoding="utf-8")
    with (root / "printed.txt").open("w") as file:
        result = subprocess.run(
            [python(), "-u", "script.py"],
            cwd=root, stdout=file, stderr=subprocess.STDOUT, timeout=TIMEOUT_S,
            env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    printed = (root / "printed.txt").read_text()
    assert result.returncode == 0, printed[-3000:]
    return root


def test_commands_are_made_small() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert all(large in text for large in SMALLER)


def test_it_runs_from_beginning_to_end(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    assert re.search(r"mean sensitivity: (0\.\d+|1\.0)", printed)
    assert (folder / "work_dirs/tutorial/froc.png").is_file()
    assert list((folder / "work_dirs/tutorial/overlays").glob("*.png"))
    # The classifier of the 2D network is all that the detector has no use for.
    loaded = "weights from resnet18.pth: 120 tensors loaded, 2 of the checkpoint skipped"
    assert loaded in printed


def test_what_it_shows_is_what_is_printed(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    shown = [b for tag, b in FENCE.findall(TUTORIAL.read_text(encoding="utf-8")) if tag == "text"]
    assert shown
    assert all(block in printed for block in shown)
