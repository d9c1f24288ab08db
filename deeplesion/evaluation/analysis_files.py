"""Writes an analysis: summaries, plots, pictures of findings, and the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from deeplesion.datasets.dl_info import find_image_root
from deeplesion.evaluation.analysis import Analysis, Settings
from deeplesion.evaluation.analysis_page import NOT_A_DEVICE, notes_of, page_data, summary
from deeplesion.evaluation.bootstrap import Band
from deeplesion.evaluation.froc import curve_from_matches
from deeplesion.evaluation.gallery import Entry, draw_entry
from deeplesion.evaluation.html_report import write_report
from deeplesion.evaluation.plots import plot_froc
from deeplesion.evaluation.reference import Reference, read_references
from deeplesion.evaluation.report_data import gallery_data
from deeplesion.evaluation.strata_plots import plot_calibration, plot_strata
from deeplesion.evaluation.tables import (
    Table,
    comparison_table,
    escape_markdown,
    results_table,
    strata_table,
    to_latex,
    to_markdown,
)
from deeplesion.io import atomic_write, write_json
from deeplesion.pictures import save_image

PLOT_SUFFIXES = (".png", ".svg")
GALLERY = 12
#: Boxes of lower score are left out of the pictures; the page has a slider.
GALLERY_SCORE = 0.3


def write_analysis(
    analysis: Analysis,
    folder: str | os.PathLike[str],
    provenance: Mapping[str, str],
    *,
    image_root: str | os.PathLike[str] | None = None,
    references: Sequence[Reference] = (),
    gallery: int = GALLERY,
    progress: Callable[[str], None] = lambda step: None,
) -> None:
    """Write ``summary.json``, ``summary.md``, plots, ``gallery/`` and ``report.html``.

    Args:
        analysis: The figures.
        folder: Where the files go; those of the same names are replaced.
        provenance: Value by label: what was evaluated, and how.
        image_root: Folder of the series folders; None where there are annotations only, whereupon
            there is no gallery.
        references: Published results to set among the detectors.
        gallery: At most so many misses, and so many false positives, of each detector.
        progress: Is told what comes next.
    """
    folder = Path(folder)
    progress("tables and plots")
    write_json(folder / "summary.json", summary(analysis, provenance), indent=1)
    with atomic_write(folder / "summary.md") as temporary:
        temporary.write_text(summary_text(analysis, provenance, references), encoding="utf-8")
    draw_plots(analysis, folder)
    progress("gallery and page")
    pictures, entries = gallery_data(analysis.cases, analysis.methods, image_root, gallery)
    _draw_gallery(entries, folder / "gallery")
    write_report(folder / "report.html", page_data(analysis, provenance, pictures, references))


def stored_slices(data_root: str | os.PathLike[str] | None) -> Path | None:
    """Folder of the series below a data root; None where there is none, or no slices in it."""
    try:
        return None if data_root is None else find_image_root(data_root)
    except FileNotFoundError:
        return None


def comparable_references(settings: Settings, split: str | None) -> list[Reference]:
    """Published results, where figures can stand among them: official protocol, test split."""
    official = split == "test" and settings.protocol == Settings().protocol
    return read_references() if official else []


def summary_text(
    analysis: Analysis, provenance: Mapping[str, str], references: Sequence[Reference] = ()
) -> str:
    """The tables in Markdown, then in LaTeX.

    Args:
        analysis: The figures.
        provenance: Value by label.
        references: Published results to set among the detectors.
    """
    tables = tables_of(analysis, references)
    facts = [f"- {label}: {escape_markdown(value)}" for label, value in provenance.items()]
    notes = [f"- {escape_markdown(note)}" for note in notes_of(analysis)]
    parts = ["# Lesion detection", NOT_A_DEVICE, "\n".join([*facts, *notes])]
    parts += [to_markdown(table).rstrip() for table in tables]
    latex = "\n".join(to_latex(table) for table in tables).rstrip()
    parts += ["## LaTeX", f"```latex\n{latex}\n```"]
    return "\n\n".join(parts) + "\n"


def tables_of(analysis: Analysis, references: Sequence[Reference] = ()) -> list[Table]:
    """All tables: detectors, comparisons, strata of each detector."""
    tables = [results_table(analysis.results, references)]
    if analysis.comparisons:
        tables.append(comparison_table(analysis.comparisons))
    for name, result in analysis.results.items():
        labels = [stratum.label for stratum in analysis.own_strata]
        tables.append(
            strata_table(f"{name}: slice intervals as own sets", labels, result.own, result)
        )
        labels = [stratum.label for stratum in analysis.strata]
        title = f"{name}: strata of lesions at the score thresholds of the whole set"
        tables.append(strata_table(title, labels, result.strata, result))
    return tables


def draw_plots(analysis: Analysis, folder: Path) -> None:
    """Draw ``froc``, ``strata_KIND`` and ``calibration``, each as PNG and SVG.

    Args:
        analysis: The figures.
        folder: Where the files go.
    """
    curves = {m.name: curve_from_matches(m.matches) for m in analysis.methods}
    overall = {name: result.overall for name, result in analysis.results.items()}
    bands: dict[str, Band] = {
        name: figures.band for name, figures in overall.items() if figures.band is not None
    }
    kinds = [kind for kind, _ in groupby(analysis.strata, lambda stratum: stratum.kind)]
    for suffix in PLOT_SUFFIXES:
        plot_froc(curves, folder / f"froc{suffix}", bands=bands)
        plot_calibration(analysis.reliabilities, folder / f"calibration{suffix}")
        for kind in kinds:
            rows = {name: analysis.strata_of_kind(name, kind) for name in overall}
            labels = [stratum.label for stratum, _ in next(iter(rows.values()))]
            figures = {name: [part for _, part in pairs] for name, pairs in rows.items()}
            plot_strata(labels, figures, folder / f"strata_{kind}{suffix}", overall=overall)


def _draw_gallery(entries: Sequence[Entry], folder: Path) -> None:
    for number, entry in enumerate(entries, 1):
        finding, stem = entry.finding, Path(entry.case.file_name).stem
        kind = finding.kind.replace(" ", "_")
        save_image(folder / f"{number:03d}_{kind}_{stem}.png", draw_entry(entry, GALLERY_SCORE))
