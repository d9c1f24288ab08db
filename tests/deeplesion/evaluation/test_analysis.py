"""All figures of detectors on one ground truth."""

from __future__ import annotations

import numpy as np
import pytest

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.analysis import Analysis, Settings, analyze
from deeplesion.evaluation.coco import coco_ap
from deeplesion.evaluation.froc import curve_from_matches, mean_sensitivity
from deeplesion.evaluation.predictions import Predictions
from tests.deeplesion.evaluation.report_material import case_of, random_cases, random_method

FEW = Settings(replicates=20)


def analysis_of_two(settings: Settings = FEW) -> Analysis:
    """Two detectors on 12 key slices."""
    cases = random_cases(12)
    methods = [random_method("poor", cases, 1, jitter=4.0), random_method("good", cases, 2)]
    return analyze(cases, [Predictions(m.name, list(m.detections), ()) for m in methods], settings)


def test_figures_are_those_of_each_detector() -> None:
    analysis = analysis_of_two()
    assert list(analysis.results) == ["poor", "good"]
    for method in analysis.methods:
        result = analysis.results[method.name]
        mean = mean_sensitivity(curve_from_matches(method.matches))
        assert result.overall.mean.value == pytest.approx(mean)
        assert len(result.strata) == len(analysis.strata)
        assert len(result.own) == len(analysis.own_strata)
        expected = coco_ap(method.detections, [case.lesions for case in analysis.cases])
        assert analysis.precisions[method.name] == expected
    (comparison,) = analysis.comparisons
    good, poor = (analysis.results[name].overall.mean.value for name in ("good", "poor"))
    assert (comparison.name, comparison.baseline) == ("good", "poor")
    assert comparison.mean.value == pytest.approx(good - poor)


def test_strata_of_a_kind_have_their_figures() -> None:
    analysis = analysis_of_two()
    pairs = analysis.strata_of_kind("good", "slice_interval")
    assert [stratum.name for stratum, _ in pairs] == ["thin", "thick"]
    for stratum, figures in pairs:
        assert figures.lesions == stratum.lesions.sum()
    assert [stratum.name for stratum in analysis.own_strata] == ["thin", "thick"]


def test_protocol_and_edges_are_those_asked_for() -> None:
    cases = [case_of(0, [[0, 0, 19, 19]])]
    twice = [np.array([[0, 0, 19, 19, 0.9], [1, 1, 19, 19, 0.8]])]
    small = [np.array([[5, 5, 9, 9, 0.9]])]
    edges = {"long_axis": [5.0]}

    def false_positives(boxes: list, **changes: object) -> int:
        settings = Settings(replicates=2, edges=edges, **changes)  # type: ignore[arg-type]
        analysis = analyze(cases, [Predictions("m", boxes, ())], settings)
        assert {s.name for s in analysis.strata if s.kind == "long_axis"} == {">= 5"}
        return int(analysis.methods[0].matches.false_positive.sum())

    assert false_positives(twice) == 0
    assert false_positives(twice, one_to_one=True) == 1
    assert false_positives(small) == 1
    assert false_positives(small, criterion="iobb", threshold=0.3) == 0
    assert Settings(criterion="iobb", threshold=0.3).rule == "IoBB >= 0.3"


def test_detectors_must_be_told_apart() -> None:
    cases = [case_of(0, [[0, 0, 19, 19]])]
    same = [Predictions("m", [np.empty((0, 5))], (), path) for path in ("a.json", "b.json")]
    with pytest.raises(DataError, match=r"2 predictions are named 'm' \(a\.json, b\.json\)"):
        analyze(cases, same, FEW)
    with pytest.raises(DataError, match="there are no predictions"):
        analyze(cases, [], FEW)


def test_progress_is_told() -> None:
    cases = random_cases(4)
    steps: list[str] = []
    method = random_method("m", cases, 1)
    analyze(cases, [Predictions("m", list(method.detections), ())], FEW, steps.append)
    assert steps == ["m: matching, 20 draws of patients"]
