"""Settings of a report out of those of a metric; tests/tools/test_test.py runs the whole."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from deeplesion.engine.config import UsageError
from deeplesion.engine.evaluation_report import report_sources, settings_of


@pytest.mark.parametrize(
    ("metric", "rule"),
    [
        ({}, "IoU >= 0.5"),
        ({"iou_threshold": 0.4}, "IoU >= 0.4"),
        ({"criterion": "iobb", "threshold": 0.3, "one_to_one": True}, "IoBB >= 0.3, one to one"),
    ],
)
def test_protocol_is_that_of_the_metric(metric: dict, rule: str) -> None:
    settings = settings_of({"type": "FROCMetric", "fps": [1, 2], **metric})
    assert settings.rule == rule
    assert settings.fps == (1.0, 2.0)


@pytest.mark.parametrize(
    ("datasets", "metrics", "got"), [(1, 0, "1 and 0"), (2, 1, "2 and 1"), (1, 2, "1 and 2")]
)
def test_what_cannot_be_reported_is_refused_beforehand(
    datasets: int, metrics: int, got: str
) -> None:
    leaves = [{"type": "DeepLesionDataset", "data_root": f"r{n}"} for n in range(datasets)]
    cfg = Config(
        {
            "test_dataloader": {"dataset": {"type": "ConcatDataset", "datasets": leaves}},
            "test_evaluator": [{"type": "CocoMetric"}, *[{"type": "FROCMetric"}] * metrics],
        }
    )
    with pytest.raises(UsageError, match=rf"one FROCMetric in test_evaluator, got {got}: go"):
        report_sources(cfg)
