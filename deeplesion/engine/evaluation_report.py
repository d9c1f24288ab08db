"""The report of an evaluation that has just run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from deeplesion.datasets.info_files import read_json
from deeplesion.datasets.lesion_record import INFO_FILE
from deeplesion.engine.config import UsageError, datasets_of, evaluators_of
from deeplesion.evaluation.analysis import Settings, analyze
from deeplesion.evaluation.analysis_files import (
    comparable_references,
    stored_slices,
    write_analysis,
)
from deeplesion.evaluation.analysis_page import provenance_of
from deeplesion.evaluation.cases import Case, canonical_name
from deeplesion.evaluation.ground_truth import read_cases
from deeplesion.evaluation.predictions import read_predictions

#: Settings of the metric that are settings of the analysis, too.
SHARED = ("criterion", "one_to_one", "fps")


def report_sources(cfg: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """The data set and the metric that a report is of, to be asked for before a long evaluation.

    Args:
        cfg: The config to run.

    Returns:
        Config of the one test data set, and of its FROC metric.

    Raises:
        UsageError: If there is not one of each.
    """
    datasets = [data for loader, data in datasets_of(cfg) if loader == "test_dataloader"]
    metrics = [item for item in evaluators_of(cfg) if item["type"] == "FROCMetric"]
    if len(datasets) != 1 or len(metrics) != 1:
        raise UsageError(
            "a report needs one test data set and one FROCMetric in test_evaluator, got "
            f"{len(datasets)} and {len(metrics)}: go without --report, then use tools/analyze.py"
        )
    return datasets[0], metrics[0]


def write_test_report(cfg: Config, folder: str | os.PathLike[str]) -> None:
    """Report on the predictions that the FROC metric of a test loop wrote.

    Key slices that were not evaluated (``indices`` of a data set) are not missed lesions: the
    report is of those that were.

    Args:
        cfg: The config that was run, its metric with a ``predictions_file``.
        folder: Where the files go, see
            :func:`deeplesion.evaluation.analysis_files.write_analysis`.

    Raises:
        UsageError: As :func:`report_sources`.
    """
    dataset, metric = report_sources(cfg)
    root, split, path = dataset["data_root"], dataset.get("split"), metric["predictions_file"]
    cases = evaluated_cases(cfg, path)
    name = Path(cfg.filename or "detector").stem
    analysis = analyze(cases, [read_predictions(path, cases, name)], settings_of(metric))
    write_analysis(
        analysis,
        folder,
        provenance_of(analysis, Path(dataset.get("ann_file", INFO_FILE)).name, split),
        image_root=stored_slices(root),
        references=comparable_references(analysis.settings, split),
    )


def evaluated_cases(cfg: Config, predictions: str | os.PathLike[str]) -> list[Case]:
    """Ground truth of the key slices that were evaluated.

    Args:
        cfg: The config that was run.
        predictions: What its metric wrote.

    Raises:
        UsageError: As :func:`report_sources`.
    """
    dataset, _ = report_sources(cfg)
    ann_file = Path(dataset["data_root"]) / dataset.get("ann_file", INFO_FILE)
    cases = read_cases(ann_file, dataset.get("split"), dataset.get("keep_noisy", False))
    evaluated = {canonical_name(image["file_name"]) for image in read_json(predictions)["images"]}
    return [case for case in cases if case.file_name in evaluated]


def settings_of(metric: dict[str, Any]) -> Settings:
    """Settings that score as a FROC metric of a config does."""
    settings = {name: metric[name] for name in SHARED if name in metric}
    if "fps" in settings:
        settings["fps"] = tuple(map(float, settings["fps"]))
    threshold = metric.get("threshold") or metric.get("iou_threshold", Settings.threshold)
    return Settings(threshold=threshold, **settings)
