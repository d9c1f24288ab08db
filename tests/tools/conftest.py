"""A trained network for the tests of tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.running import SHORT, SMALL, run_tool


@pytest.fixture(scope="session")
def trained(synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder after some iterations of the small AlignShift config, seed 3."""
    folder = tmp_path_factory.mktemp("trained")
    result = run_tool(
        "tools/train.py", SMALL.format("alignshift"), "--work-dir", folder,
        "--data-root", synthetic_root, "--seed", 3, "--cfg-options", *SHORT, cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return folder
