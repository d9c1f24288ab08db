"""The picture of docs/lesions.md is what its script draws."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import cv2

from tests.forked import python

REPO_ROOT = Path(__file__).resolve().parents[1]
MEAN_DIFFERENCE = 2.0  # of 255: other releases of matplotlib set text a little differently


def test_picture_is_that_of_the_script(tmp_path: Path) -> None:
    script = REPO_ROOT / "docs/images/draw_lesions.py"
    subprocess.run(
        [python(), str(script), "--out", str(tmp_path)],
        check=True, timeout=300, env={**os.environ, "PYTHONPATH": str(REPO_ROOT)},
    )  # fmt: skip
    drawn, committed = (
        cv2.imread(str(folder / "lesions.png")) for folder in (tmp_path, script.parent)
    )
    assert drawn.shape == committed.shape
    assert cv2.absdiff(drawn, committed).mean() < MEAN_DIFFERENCE
