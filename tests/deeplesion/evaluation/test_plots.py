"""The FROC plot."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.evaluation.bootstrap import BAND_FPS, Band, bootstrap
from deeplesion.evaluation.froc import FROCCurve, froc_curve
from deeplesion.evaluation.matching import match_detections
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


def test_bands_are_light_fills_behind_the_curves(tmp_path: Path) -> None:
    found, missed = [[*HIT, 0.9], [*FAR, 0.8]], [[*FAR, 0.7]]
    matches = match_detections([found, missed] * 4, [[HIT]] * 8)
    band = bootstrap(matches, range(8), band_fps=BAND_FPS, replicates=50).overall.band
    assert band is not None
    curves = {"all": CURVES["all"], "thick": CURVES["thick"]}
    plot_froc(curves, tmp_path / "plain.png")
    plot_froc(curves, tmp_path / "bands.png", bands={"thick": band})
    plain, banded = (cv2.imread(str(tmp_path / f"{n}.png")) for n in ("plain", "bands"))
    changed = (plain != banded).any(axis=-1)
    assert changed.mean() > 0.02
    # White becomes blue of little strength.
    color = banded[changed & (plain == 255).all(axis=-1)]
    assert np.median(color, axis=0).tolist() == pytest.approx([242, 234, 217], abs=2)
    assert has_color(banded, COLORS[1])


def test_a_band_without_an_interval_is_not_drawn(tmp_path: Path) -> None:
    nothing = np.full(3, np.nan)
    band = Band(np.array([1.0, 2, 4]), nothing, nothing, nothing)
    plot_froc(CURVES, tmp_path / "plain.png")
    plot_froc(CURVES, tmp_path / "band.png", bands={"all": band})
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "band.png").read_bytes()
    with pytest.raises(ValueError, match=r"band 'al' has no curve: curves are \['all', "):
        plot_froc(CURVES, tmp_path / "froc.png", bands={"al": band})


def test_names_with_dollars(tmp_path: Path) -> None:
    plot_froc({"a $b_$ c $": CURVES["all"]}, tmp_path / "froc.svg", title="$x")
    assert (tmp_path / "froc.svg").is_file()
