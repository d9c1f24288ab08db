"""The FROC plot."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.evaluation.froc import FROCCurve, froc_curve
from deeplesion.evaluation.plots import COLORS, plot_froc

HIT = [0, 0, 9, 9]
FAR = [50, 50, 59, 59]
CURVES = {
    "all": froc_curve([[[*HIT, 0.9], [*FAR, 0.8]], [[*FAR, 0.7], [*HIT, 0.6]]], [[HIT], [HIT]]),
    "thick": froc_curve([[[*HIT, 0.9]]], [[HIT]]),
    "nothing found": froc_curve([[]], [[HIT]]),
    "nothing there": froc_curve([[[*HIT, 0.9]]], [[]]),
}


def has_color(image: np.ndarray, color: str) -> bool:
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((image == rgb[::-1]).all(axis=-1).any())


def test_png(tmp_path: Path) -> None:
    path = tmp_path / "new" / "froc.png"
    plot_froc(CURVES, path, title="test split")
    image = cv2.imread(str(path))
    assert image.shape == (720, 960, 3)
    for color in COLORS[:4]:
        assert has_color(image, color)
    assert not has_color(image, COLORS[4])
    assert [p.name for p in path.parent.iterdir()] == ["froc.png"]


def test_legend_has_the_means(tmp_path: Path) -> None:
    plot_froc(CURVES, tmp_path / "froc.svg")
    text = (tmp_path / "froc.svg").read_text()
    for entry in (
        "all: 0.875",
        "thick: 1.000",
        "nothing found: 0.000",
        "nothing there: no lesions",
    ):
        assert f"<!-- {entry} -->" in text
    for label in ("0.5", "16", "false positives per image", "sensitivity"):
        assert f"<!-- {label} -->" in text


@pytest.mark.parametrize("curves", [{}, {str(i): CURVES["all"] for i in range(9)}])
def test_any_number_of_curves(curves: dict[str, FROCCurve], tmp_path: Path) -> None:
    plot_froc(curves, tmp_path / "froc.png")
    assert (tmp_path / "froc.png").stat().st_size > 1000


def test_no_global_figures(tmp_path: Path) -> None:
    plot_froc(CURVES, tmp_path / "froc.png")
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
