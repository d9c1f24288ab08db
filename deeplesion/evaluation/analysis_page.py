"""An analysis as the data of its page and of ``summary.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.evaluation.analysis import Analysis
from deeplesion.evaluation.bootstrap import Interval, SetFigures
from deeplesion.evaluation.calibration import Reliability
from deeplesion.evaluation.comparison import Comparison, Difference
from deeplesion.evaluation.froc import MEAN_FPS, REPORT_FPS
from deeplesion.evaluation.reference import Reference
from deeplesion.evaluation.report_data import curve_points, lesion_rows

NOT_A_DEVICE = (
    "Research software, not a medical device: not for diagnosis or treatment. An interval tells "
    "what another draw of patients would change, nothing else."
)
DISTRIBUTION = "deeplesion-alignshift"
# What a file of predictions tells of itself.
TOLD = ("config", "checkpoint", "split")
STRATA_NOTE = "Mean sensitivity in % at the score thresholds of the whole set."


def page_data(
    analysis: Analysis,
    provenance: Mapping[str, str],
    gallery: Mapping[str, Any],
    references: Sequence[Reference] = (),
) -> dict[str, Any]:
    """What :func:`deeplesion.evaluation.html_report.write_report` takes.

    Args:
        analysis: The figures.
        provenance: Value by label: what was evaluated, and how.
        gallery: Of :func:`deeplesion.evaluation.report_data.gallery_data`.
        references: Published results to set among the detectors.
    """
    settings = analysis.settings
    return {
        "title": "Lesion detection: " + ", ".join(m.name for m in analysis.methods),
        "subtitle": NOT_A_DEVICE,
        "provenance": list(provenance.items()),
        "counts": counts_of(analysis),
        "fps": list(settings.fps),
        "mean_fps": list(MEAN_FPS),
        "level": settings.level,
        "notes": notes_of(analysis),
        "methods": [_method(analysis, index) for index in range(len(analysis.methods))],
        "strata_note": STRATA_NOTE,
        "comparisons": [_comparison(item) for item in analysis.comparisons],
        "references": [_reference(item) for item in references],
        "lesions": lesion_rows(analysis.cases, analysis.methods, analysis.strata),
        **gallery,
    }


def summary(analysis: Analysis, provenance: Mapping[str, str]) -> dict[str, Any]:
    """What ``summary.json`` holds: every figure; one that is not defined is null.

    Args:
        analysis: The figures.
        provenance: Value by label: what was evaluated, and how.
    """
    settings = analysis.settings
    return {
        "provenance": dict(provenance),
        "settings": {
            **settings.protocol,
            **settings.drawing,
            "fps": list(settings.fps),
            "mean_fps": list(MEAN_FPS),
            "edges": {kind: list(edges) for kind, edges in settings.edges.items()},
        },
        "counts": counts_of(analysis),
        "notes": notes_of(analysis),
        "detectors": {name: _detector(analysis, name) for name in analysis.results},
        "comparisons": [_comparison(item) for item in analysis.comparisons],
    }


def provenance_of(analysis: Analysis, ground_truth: str, split: str | None) -> dict[str, str]:
    """What was evaluated, and how: value by label.

    Args:
        analysis: The figures.
        ground_truth: Name of the file.
        split: Of the ground truth; None: all of it.
    """
    settings = analysis.settings
    facts = {"ground truth": ground_truth, "split": split or "all"}
    for item in analysis.predictions:
        told = [f"{key} {item.meta[key]}" for key in TOLD if item.meta.get(key)]
        digest = f"{Path(item.path).name}, sha256 {item.sha256[:16]}"
        facts[item.name] = "; ".join([digest, *told])
    return {
        **facts,
        "hit": settings.rule,
        "intervals": f"{100 * settings.level:g} %, {settings.replicates} draws of patients, "
        f"seed {settings.seed}",
        "versions": f"alignshift {version(DISTRIBUTION)}, numpy {np.__version__}",
    }


def counts_of(analysis: Analysis) -> dict[str, int]:
    """Numbers of key slices, lesions and patients."""
    return {
        "images": len(analysis.cases),
        "lesions": sum(len(case.lesions) for case in analysis.cases),
        "patients": len({case.patient for case in analysis.cases}),
    }


def notes_of(analysis: Analysis) -> list[str]:
    """What a reader of the figures should know."""
    notes = [f"{item.name}: {note}" for item in analysis.predictions for note in item.notes]
    for name, found in analysis.precisions.items():
        if not math.isnan(found["AP"]):
            both = ", ".join(f"{key} {100 * value:.1f}" for key, value in found.items())
            notes.append(f"{name}: COCO's {both} (in %).")
    for name, result in analysis.results.items():
        if result.overall.note:
            notes.append(f"{name}: {result.overall.note}.")
    return notes


def _detector(analysis: Analysis, name: str) -> dict[str, Any]:
    result = analysis.results[name]
    own = zip(analysis.own_strata, result.own, strict=True)
    strata = zip(analysis.strata, result.strata, strict=True)
    return {
        "overall": _figures(result.overall),
        "strata": [{**_kind(stratum), **_figures(figures)} for stratum, figures in strata],
        "own_sets": [{**_kind(stratum), **_figures(figures)} for stratum, figures in own],
        "calibration": _reliability(analysis.reliabilities[name]),
        "calibration_error": _number(analysis.reliabilities[name].error),
        "coco": {key: _number(value) for key, value in analysis.precisions[name].items()},
    }


def _method(analysis: Analysis, index: int) -> dict[str, Any]:
    method = analysis.methods[index]
    result, scores = analysis.results[method.name], analysis.reliabilities[method.name]
    band = result.overall.band
    strata = zip(analysis.strata, result.strata, strict=True)
    reported = tuple(sorted({*analysis.settings.fps, *REPORT_FPS}))
    return {
        "name": method.name,
        "figures": _by_fps(result.overall.sensitivity),
        "mean": _interval(result.overall.mean),
        "curve": curve_points(method.matches, reported),
        "band": None if band is None else {"fps": band.fps, "low": band.low, "high": band.high},
        "strata": [
            {**_kind(stratum), "lesions": figures.lesions, **_interval(figures.mean)}
            for stratum, figures in strata
        ],
        "calibration": _reliability(scores),
        "calibration_error": _number(scores.error),
    }


def _kind(stratum: Any) -> dict[str, str]:
    return {"kind": stratum.kind, "name": stratum.name, "label": stratum.label}


def _figures(figures: SetFigures) -> dict[str, Any]:
    return {
        "images": figures.images,
        "lesions": figures.lesions,
        "patients": figures.patients,
        "sensitivity": _by_fps(figures.sensitivity),
        "mean": _interval(figures.mean),
        "note": figures.note,
    }


def _by_fps(sensitivity: Mapping[float, Interval]) -> dict[str, dict[str, float | None]]:
    return {f"{fps:g}": _interval(value) for fps, value in sensitivity.items()}


def _reliability(scores: Reliability) -> list[dict[str, float | None]]:
    columns = (scores.score, scores.share, scores.low, scores.high, scores.boxes)
    names = ("score", "precision", "low", "high", "boxes")
    return [
        {name: _number(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _comparison(item: Comparison) -> dict[str, Any]:
    named = {**{f"{fps:g}": d for fps, d in item.sensitivity.items()}, "mean": item.mean}
    return {
        "first": item.baseline,
        "second": item.name,
        "rows": [_difference(fps, difference) for fps, difference in named.items()],
        "note": item.note,
    }


def _difference(fps: str, item: Difference) -> dict[str, Any]:
    return {
        "fps": fps,
        "difference": _number(item.value),
        "low": _number(item.low),
        "high": _number(item.high),
        "p": _number(item.p_value),
    }


def _reference(item: Reference) -> dict[str, Any]:
    return {
        "method": item.method,
        "slices": item.slices,
        "mean": 100 * item.mean,
        "figures": {f"{fps:g}": 100 * value for fps, value in item.sensitivity.items()},
        "source": item.source,
        "confirmed": item.confirmed,
    }


def _interval(value: Interval) -> dict[str, float | None]:
    return {name: _number(part) for name, part in value._asdict().items()}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
