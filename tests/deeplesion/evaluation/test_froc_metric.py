"""FROCMetric on hand-made samples."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from deeplesion.evaluation.froc_metric import FROCMetric
from tests.processes import run_processes

HIT = [0.0, 0, 9, 9]
FAR = [50.0, 50, 59, 59]


def sample(
    img_id: int,
    boxes: list,
    lesions: list,
    interval: float = 1.0,
    dtype: torch.dtype = torch.float32,
    masks: bool = False,
) -> dict[str, Any]:
    """A data sample as the evaluator of mmengine hands it to metrics."""
    predicted = torch.tensor(boxes, dtype=dtype).reshape(-1, 5)
    instances = {"bboxes": predicted[:, :4], "scores": predicted[:, 4]}
    instances["labels"] = torch.zeros(len(predicted), dtype=torch.long)
    if masks:
        instances["masks"] = torch.zeros(len(predicted), 64, 64, dtype=torch.bool)
        instances["masks"][:, 2:5, 10:20] = True
    meta = {
        "img_id": img_id,
        "file_name": f"000001_01_01_{img_id:03d}.png",
        "slice_interval": interval,
        "instances": [
            {"bbox": box, "bbox_label": 0, "diameters_mm": (12.0, 8.0), "coarse_type": 5}
            for box in lesions
        ],
    }
    data_sample = DetDataSample(metainfo=meta, pred_instances=InstanceData(**instances))
    return data_sample.to_dict()


SAMPLES = [
    sample(1, [[*HIT, 0.9], [*FAR, 0.8]], [HIT], 1.0),
    sample(2, [[*FAR, 0.7], [*HIT, 0.6]], [HIT], 5.0),
]


def test_figures_and_registration() -> None:
    metric = METRICS.build({"type": "FROCMetric"})
    assert isinstance(metric, FROCMetric)
    for one in SAMPLES:  # batches of one
        metric.process(None, [one])
    figures = metric.evaluate(len(SAMPLES))
    assert figures == {
        "froc/sens@0.5": 0.5,
        **{f"froc/sens@{fps}": 1.0 for fps in (1, 2, 4, 8, 16)},
        "froc/mean": 0.875,
        "froc/thin_mean": 1.0,
        "froc/thick_mean": 0.75,
    }


def evaluated_beside_nccl() -> dict[str, float]:
    """Figures of samples shared by two processes, whose gradients would go by NCCL."""
    metric = FROCMetric()
    metric.process(None, [SAMPLES[torch.distributed.get_rank()]])
    with patch("torch.distributed.get_backend", return_value="nccl"):
        return metric.evaluate(len(SAMPLES))


def test_processes_have_the_figures_of_all() -> None:
    metric = FROCMetric()
    metric.process(None, SAMPLES)
    assert run_processes(evaluated_beside_nccl, 2) == [metric.evaluate(len(SAMPLES))] * 2


def test_options() -> None:
    metric = FROCMetric(iou_threshold=0.95, fps=(0.25, 1), prefix="strict")
    metric.process(None, [sample(1, [[0, 0, 9, 8, 0.9]], [HIT])])
    figures = metric.evaluate(1)
    assert list(figures) == [
        "strict/sens@0.25",
        "strict/sens@1",
        "strict/mean",
        "strict/thin_mean",
    ]
    assert figures["strict/mean"] == 0  # 0.9 < 0.95


def test_other_protocols(tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "official": {},
        "strict": {"one_to_one": True},
        "iobb": {"criterion": "iobb", "threshold": 0.3},
        "center": {"criterion": "center"},
    }
    false_positives = {}
    for name, protocol in options.items():
        metric = FROCMetric(froc_file=tmp_path / f"{name}.json", **protocol)
        # A box within the lesion, one that fits, a duplicate of it; and the lesion missed.
        boxes = [[2, 2, 4, 4, 0.9], [*HIT, 0.8], [0, 0, 9, 8, 0.7]]
        metric.process(None, [sample(1, boxes, [HIT]), sample(2, [], [HIT])])
        metric.evaluate(2)
        froc = json.loads((tmp_path / f"{name}.json").read_text())
        got = froc["settings"]
        assert got["criterion"] == protocol.get("criterion", "iou")
        assert got["threshold"] == protocol.get("threshold", 0.5)
        assert got["one_to_one"] == protocol.get("one_to_one", False)
        assert ("iou_threshold" in got) == (got["criterion"] == "iou")
        false_positives[name] = 2 * froc["curves"]["all"]["fps_per_image"][-1]
        assert froc["table"]["all"]["sensitivity"]["16"] == 0.5
    assert false_positives == {"official": 1, "strict": 2, "iobb": 0, "center": 0}


def test_coco_ap_beside(tmp_path: Path) -> None:
    metric = FROCMetric(coco_ap=True, froc_file=tmp_path / "froc.json")
    # A hit of IoU 0.7, so that it counts at 0.5 to 0.7, and a false positive after it.
    metric.process(None, [sample(1, [[0, 0, 9, 6, 0.9], [*FAR, 0.8]], [HIT])])
    figures = metric.evaluate(1)
    assert list(figures)[-2:] == ["froc/AP", "froc/AP50"]
    assert figures["froc/AP"] == pytest.approx(0.5)
    assert figures["froc/AP50"] == pytest.approx(1)
    metrics = json.loads((tmp_path / "froc.json").read_text())["metrics"]
    assert metrics["AP"] == pytest.approx(0.5)
    metric.process(None, [sample(1, [[*FAR, 0.8]], [])])
    assert math.isnan(metric.evaluate(1)["froc/AP"])
    assert json.loads((tmp_path / "froc.json").read_text())["metrics"]["AP50"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "dice"}, "criterion must be one of iou, iobb, center, got 'dice'"),
        ({"iou_threshold": 0}, r"threshold must be in \(0, 1\], got 0"),
        ({"criterion": "iobb", "threshold": 1.5}, r"threshold must be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_protocols_are_refused_before_any_image(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FROCMetric(**options)


def test_works_through_the_evaluator() -> None:
    evaluator = Evaluator(FROCMetric())
    data_samples = [
        DetDataSample(
            metainfo={
                key: one[key] for key in ("img_id", "file_name", "slice_interval", "instances")
            },
            pred_instances=InstanceData(**one["pred_instances"]),
        )
        for one in SAMPLES
    ]
    evaluator.process(data_samples)
    assert evaluator.evaluate(2)["froc/mean"] == 0.875


def test_images_that_came_twice_count_once(tmp_path: Path) -> None:
    metric = FROCMetric(predictions_file=tmp_path / "p.json", froc_file=tmp_path / "f.json")
    metric.process(None, [*SAMPLES, SAMPLES[0]])
    figures = metric.compute_metrics(metric.results)
    assert figures["mean"] == 0.875
    assert len(json.loads((tmp_path / "p.json").read_text())["images"]) == 2
    assert json.loads((tmp_path / "f.json").read_text())["counts"]["images"] == 2


def test_order_of_arrival_does_not_matter() -> None:
    # Equal scores everywhere: who comes first would decide.
    tied = [
        sample(1, [[*HIT, 0.5]], [HIT]),
        sample(2, [[*FAR, 0.5]], []),
        sample(3, [[*HIT, 0.5]], [HIT]),
    ]
    results = []
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        metric = FROCMetric()
        metric.process(None, [tied[i] for i in order])
        results.append(metric.evaluate(3))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_type(dtype: torch.dtype) -> None:
    metric = FROCMetric()
    metric.process(None, [sample(1, [[*HIT, 0.9]], [HIT], dtype=dtype)])
    assert metric.evaluate(1)["froc/mean"] == 1.0


def test_boxes_that_decoding_turned_inside_out_are_taken() -> None:
    metric = FROCMetric()
    metric.process(None, [sample(1, [[*HIT, 0.9], [30.5, 30, 29.9, 40, 0.5]], [HIT])])
    assert metric.evaluate(1)["froc/mean"] == 1.0
    (*_, narrow) = [[30.5, 30, 30.5, 40]]
    metric.process(None, [sample(1, [[30.5, 30, 29.9, 40, 0.5]], [])])
    np.testing.assert_array_equal(metric.results[0]["bboxes"][0, :4], narrow)


def test_nothing_found_and_nothing_there() -> None:
    metric = FROCMetric()
    metric.process(None, [sample(1, [], [HIT])])
    assert metric.evaluate(1)["froc/mean"] == 0
    metric.process(None, [sample(1, [], [])])
    assert math.isnan(metric.evaluate(1)["froc/mean"])


def test_lesions_of_little_annotation() -> None:
    bare = sample(1, [[*HIT, 0.9]], [], math.nan)
    bare["instances"] = [{"bbox": HIT}]
    bare["slice_interval"] = None
    metric = FROCMetric()
    metric.process(None, [bare])
    assert metric.evaluate(1)["froc/other_mean"] == 1


def test_files(tmp_path: Path) -> None:
    metric = FROCMetric(
        predictions_file=tmp_path / "out" / "predictions.json",
        save_masks=True,
        froc_file=tmp_path / "out" / "froc.json",
        plot_file=tmp_path / "out" / "froc.png",
    )
    metric.dataset_meta = {"classes": ("lesion",)}
    metric.process(None, [sample(2, [], [HIT]), sample(1, [[*HIT, 0.25]], [HIT], masks=True)][1:])
    metric.process(None, [sample(2, [], [HIT], masks=True)])
    metric.evaluate(2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "froc.json",
        "froc.png",
        "predictions.json",
    ]
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert predictions["meta"]["classes"] == ["lesion"]
    first, second = predictions["images"]
    assert (first["img_id"], first["file_name"]) == (1, "000001_01_01_001.png")
    assert first["bboxes"] == [[0, 0, 9, 9, 0.25]]
    mask = coco_mask.decode(first["masks"][0])
    assert mask.shape == (64, 64)
    assert mask.sum() == 30
    assert mask[2:5, 10:20].all()
    assert (second["bboxes"], second["masks"]) == ([], [])
    froc = json.loads((tmp_path / "out" / "froc.json").read_text())
    assert froc["settings"]["iou_threshold"] == 0.5
    assert froc["table"]["all"]["mean"] == 0.5
    assert cv2.imread(str(tmp_path / "out" / "froc.png")) is not None


def test_masks_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    metric = FROCMetric(predictions_file=tmp_path / "p.json")
    metric.process(None, [sample(1, [[*HIT, 0.25]], [HIT], masks=True)])
    metric.evaluate(1)
    assert "masks" not in json.loads((tmp_path / "p.json").read_text())["images"][0]


def test_masks_of_a_detector_without() -> None:
    metric = FROCMetric(predictions_file="p.json", save_masks=True)
    with pytest.raises(ValueError, match="save_masks=True needs a detector that predicts masks"):
        metric.process(None, [SAMPLES[0]])


@pytest.mark.parametrize("key", ["instances", "slice_interval", "img_id", "file_name"])
def test_missing_meta_key_names_the_config_line(key: str) -> None:
    incomplete = {k: v for k, v in SAMPLES[0].items() if k != key}
    message = rf"lack {key}: add to PackDetInputs .* test_pipeline meta_keys=\(\.\.\., '{key}'\)"
    with pytest.raises(KeyError, match=message):
        FROCMetric().process(None, [incomplete])


def test_table_goes_to_the_log() -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        metric = FROCMetric()
        metric.process(None, SAMPLES)
        metric.evaluate(2)
    finally:
        logger.removeHandler(handler)
    (text,) = [record.getMessage() for record in records]
    assert text.startswith("FROC: sensitivity at IoU >= 0.5\n")
    assert "thick (5 mm)" in text


@pytest.mark.parametrize("bad", [[math.nan, 0, 9, 9, 0.9], [*HIT, math.inf]])
def test_boxes_that_are_not_finite_are_named_by_every_process(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"must be finite, got .* for 000001_01_01_007\.png"):
        FROCMetric().process(None, [sample(7, [[*FAR, 0.8], bad], [HIT])])
