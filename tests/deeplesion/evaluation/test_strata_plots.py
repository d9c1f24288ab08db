"""Plots of strata and of calibration."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.evaluation.bootstrap import bootstrap
from deeplesion.evaluation.calibration import reliability
from deeplesion.evaluation.matching import match_detections
from deeplesion.evaluation.plots import COLORS
from deeplesion.evaluation.strata_plots import plot_calibration, plot_strata
from tests.deeplesion.evaluation.test_plots import has_color

HIT = [0, 0, 9, 9]
FAR = [50, 50, 59, 59]
PATIENTS = list(range(12))
MATCHES = match_detections([[[*HIT, 0.9]], [[*FAR, 0.4]], []] * 4, [[HIT]] * 12)
MASKS = [np.arange(12) < 8, np.arange(12) == 11, np.zeros(12, bool)]
RESULT = bootstrap(MATCHES, PATIENTS, lesion_strata=MASKS, replicates=50)
LABELS = ["small", "one of $x", "nobody"]


def comments(path: Path) -> list[str]:
    """Texts of an SVG, which matplotlib writes beside their outlines."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [line[5:-4] for line in lines if line.startswith("<!-- ")]


def test_strata(tmp_path: Path) -> None:
    figures = {"a": RESULT.strata, "b": RESULT.strata}
    path = tmp_path / "new" / "strata.png"
    plot_strata(LABELS, figures, path, overall={"a": RESULT.overall}, groups=["x", "x", "y"])
    image = cv2.imread(str(path))
    assert image.shape[1] == 960
    assert has_color(image, COLORS[0])
    assert has_color(image, COLORS[1])
    assert not has_color(image, COLORS[2])
    assert [p.name for p in path.parent.iterdir()] == ["strata.png"]


def test_what_a_plot_of_strata_says(tmp_path: Path) -> None:
    path = tmp_path / "strata.svg"
    plot_strata(LABELS, {"a": RESULT.strata}, path, fps=4.0, title="all of them")
    texts = comments(path)
    for text in ("small", "nobody", "8", "1", "0", "lesions", "all of them"):
        assert text in texts
    assert "sensitivity at 4 false positives per image" in texts
    assert "a" not in texts  # one detector needs no legend
    plot_strata(LABELS, {"a": RESULT.strata, "b": RESULT.strata}, path)
    assert {"a", "b", "mean sensitivity"} <= set(comments(path))


def test_more_strata_make_a_higher_plot(tmp_path: Path) -> None:
    heights = []
    for times in (1, 4):
        path = tmp_path / "strata.png"
        plot_strata(LABELS * times, {"a": RESULT.strata * times}, path)
        heights.append(cv2.imread(str(path)).shape[0])
    assert heights[1] > 1.5 * heights[0]


def test_no_strata(tmp_path: Path) -> None:
    plot_strata([], {"a": []}, tmp_path / "strata.png")
    plot_strata([], {}, tmp_path / "none.png")
    assert (tmp_path / "none.png").is_file()


def test_figures_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "strata.png"
    with pytest.raises(ValueError, match="'a' must have one figure for each of 2 strata, got 3"):
        plot_strata(LABELS[:2], {"a": RESULT.strata}, path)
    with pytest.raises(ValueError, match="groups must have one name for each of 3 strata, got 1"):
        plot_strata(LABELS, {"a": RESULT.strata}, path, groups=["x"])
    with pytest.raises(ValueError, match=r"fps must be one of \[0.5, .*\], got 3"):
        plot_strata(LABELS, {"a": RESULT.strata}, path, fps=3)


def test_calibration(tmp_path: Path) -> None:
    rows = {
        "good": reliability(MATCHES, PATIENTS, bins=2),
        "logits": reliability(match_detections([[[*FAR, 3.0]]], [[]]), [0]),
        "nothing": reliability(match_detections([], []), []),
    }
    plot_calibration(rows, tmp_path / "calibration.png", title="test split")
    image = cv2.imread(str(tmp_path / "calibration.png"))
    assert has_color(image, COLORS[0])
    assert has_color(image, COLORS[1])
    plot_calibration(rows, tmp_path / "calibration.svg")
    texts = comments(tmp_path / "calibration.svg")
    assert f"good: error {rows['good'].error:.3f}" in texts
    assert "logits: scores are no probabilities" in texts
    assert "nothing: no boxes" in texts
    plot_calibration({}, tmp_path / "none.png")


def test_no_global_figures(tmp_path: Path) -> None:
    plot_strata(LABELS, {"a": RESULT.strata}, tmp_path / "strata.png")
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
