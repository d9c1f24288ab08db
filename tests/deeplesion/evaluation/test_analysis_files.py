"""Files of an analysis."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from deeplesion.evaluation.analysis import Settings
from deeplesion.evaluation.analysis_files import (
    comparable_references,
    stored_slices,
    summary_text,
    write_analysis,
)
from deeplesion.evaluation.reference import read_references
from tests.deeplesion.evaluation.report_material import write_slices
from tests.deeplesion.evaluation.test_analysis import analysis_of_two


def test_everything_is_written(tmp_path: Path) -> None:
    analysis = analysis_of_two()
    slices = write_slices(tmp_path / "slices", analysis.cases)
    steps: list[str] = []
    out = tmp_path / "out"
    write_analysis(
        analysis, out, {"split": "test"}, image_root=slices, gallery=2, progress=steps.append
    )
    assert steps == ["tables and plots", "gallery and page"]
    kinds = {stratum.kind for stratum in analysis.strata}
    plots = {"froc", "calibration", *(f"strata_{kind}" for kind in kinds)}
    assert {file.stem for file in out.glob("*.png")} == plots
    assert {file.stem for file in out.glob("*.svg")} == plots
    assert json.loads((out / "summary.json").read_text())["counts"]["images"] == 12
    pictures = sorted((out / "gallery").glob("*.png"))
    assert len(pictures) == 2 * 2 * 2  # misses and false positives of two detectors
    assert all(cv2.imread(str(file)) is not None for file in pictures)
    assert "data:image/png" in (out / "report.html").read_text()


def test_without_slices_there_is_no_gallery_and_the_page_says_so(tmp_path: Path) -> None:
    write_analysis(analysis_of_two(), tmp_path, {})
    assert not (tmp_path / "gallery").exists()
    assert "There is no gallery" in (tmp_path / "report.html").read_text()


def test_summary_has_plain_and_latex_tables() -> None:
    analysis = analysis_of_two()
    text = summary_text(analysis, {"split": "te*st"}, read_references())
    assert "- split: te\\*st" in text
    mean = f"{100 * analysis.results['good'].overall.mean.value:.2f}"
    plain, latex = text.split("## LaTeX")
    assert mean in plain
    assert mean in latex
    assert plain.count("AlignShift, 3 slices") == latex.count("AlignShift, 3 slices") == 1
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 6
    assert "† " not in latex


def test_published_results_stand_among_comparable_ones_alone() -> None:
    assert comparable_references(Settings(seed=1), "test") == read_references()
    assert comparable_references(Settings(), "val") == []
    assert comparable_references(Settings(one_to_one=True), "test") == []


def test_slices_are_found_where_they_are(tmp_path: Path) -> None:
    assert stored_slices(None) is None
    assert stored_slices(tmp_path) is None
    (tmp_path / "Images_png/000001_01_01").mkdir(parents=True)
    assert stored_slices(tmp_path) == tmp_path / "Images_png"
