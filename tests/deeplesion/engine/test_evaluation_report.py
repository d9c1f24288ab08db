"""Settings of a report out of those of a metric; tests/tools/test_test.py runs the whole."""

from __future__ import annotations

import pytest

from deeplesion.engine.evaluation_report import settings_of


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
