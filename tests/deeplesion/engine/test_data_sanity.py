"""What looks wrong in the data of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from deeplesion.engine.data_sanity import (
    DataFacts,
    PipelineFacts,
    check_intervals,
    check_lesions,
    check_overlap,
    check_pipeline,
    check_sets,
    data_facts,
    try_pipeline,
)

BOX = [10.0, 10.0, 20.0, 20.0]


def facts(name: str = "train", **other: Any) -> DataFacts:
    known = {"files": ("a", "b"), "patients": (1, 2), "intervals": (1.0, 5.0), "lesions": (1, 2)}
    return DataFacts(name, **{**known, **other})


def info(name: str, boxes: Sequence = (BOX,), **other: Any) -> dict:
    lesions = [{"bbox": box, "ignore_flag": 0} for box in boxes]
    return {
        "file_name": name,
        "patient_id": 1,
        "slice_interval": 2.0,
        "instances": lesions,
        **other,
    }


class FakeSet(list):
    """Data infos with a pipeline."""

    def __init__(self, infos: Sequence[dict], pipeline: Callable | None = None) -> None:
        super().__init__(infos)
        self.pipeline = pipeline

    def get_data_info(self, index: int) -> dict:
        return self[index]


def sample(boxes: Sequence, masks: Any = None, **meta: Any) -> dict:
    instances = InstanceData(bboxes=HorizontalBoxes(torch.tensor(boxes).reshape(-1, 4)))
    if masks is not None:
        instances.masks = masks
    data = DetDataSample(metainfo={"thickness": 2.0, **meta}, gt_instances=instances)
    return {"inputs": torch.zeros(7, 8, 8), "data_samples": data}


def test_annotations_are_counted() -> None:
    degenerate = [10.0, 10.0, 9.0, 20.0]
    infos = [
        info("a"),
        info("b", [BOX, degenerate], patient_id=2),
        info("c", [], slice_interval=None),
    ]
    found = data_facts("train", FakeSet(infos))
    assert found.files == ("a", "b", "c")
    assert found.lesions == (1, 2, 0)
    assert found.degenerate == ("b",)
    assert math.isnan(found.intervals[2])
    assert str(found) == "3 images, 3 lesions, 2 patients (2 mm: 2, unknown: 1)"


def test_a_patient_in_both_sets_is_an_error() -> None:
    train = facts()
    assert check_overlap(train, facts("val", files=("c",), patients=(3,))).level == "ok"
    finding = check_overlap(train, facts("val", files=("c", "d"), patients=(3, 2)))
    assert finding.level == "error"
    assert "1 patient in both train and val (2)" in finding.what
    # On purpose, as to over-fit: all of the validation images are trained on.
    assert check_overlap(train, facts("val")).level == "warning"
    # Unknown patients are not the same one.
    unknown = facts(patients=(None, None))
    assert check_overlap(unknown, facts("val", files=("c",), patients=(None,))).level == "ok"


@pytest.mark.parametrize(
    ("intervals", "level", "words"),
    [
        ((1.0, 5.0), "ok", "plausible"),
        ((math.nan, 5.0), "warning", "1 image without a slice interval (a)"),
        ((0.0, -1.0), "warning", "2 images without"),
        ((1.0, 250.0), "warning", "1 not between 0.2 and 20 mm (b)"),
    ],
)
def test_slice_intervals(intervals: tuple, level: str, words: str) -> None:
    finding = check_intervals(facts(intervals=intervals))
    assert finding.level == level
    assert words in finding.what


def test_images_without_lesions() -> None:
    assert [f.level for f in check_lesions(facts())] == ["ok"]
    (some,) = check_lesions(facts(lesions=(0, 1)))
    assert (some.level, "1 of 2 images have no lesion (a)" in some.what) == ("warning", True)
    (none,) = check_lesions(facts(lesions=(0, 0)))
    assert none.level == "error"
    assert check_lesions(facts(degenerate=("b",)))[0].level == "error"


def test_both_sets_are_looked_at() -> None:
    named = [finding.what for finding in check_sets(facts(), facts("val", lesions=(0, 1)))]
    assert any(what.startswith("val: 1 of 2") for what in named)
    assert len(check_sets(facts(), None)) == 2


def test_pipeline_losses_are_counted() -> None:
    masks = BitmapMasks(torch.zeros(1, 8, 8).numpy().astype("uint8"), 8, 8)
    results = {
        "kept": sample([BOX]),
        "lost": sample([]),
        "spoiled": sample([[5.0, 5.0, 5.0, math.nan]], masks, thickness=math.nan),
        "dropped": None,
    }
    data = FakeSet([info(name) for name in results], lambda one: results[one["file_name"]])
    found = try_pipeline(data, 10)
    assert (found.images, found.lesions_in, found.lesions_out) == (4, 4, 2)
    assert (found.masks, found.empty_masks, found.degenerate) == (1, 1, 1)
    assert found.unknown_thickness == 1
    assert found.losers == ["lost", "dropped"]
    assert found.image_bytes == 7 * 8 * 8 * 4
    levels = [finding.level for finding in check_pipeline(found)]
    assert levels == ["warning", "warning", "error", "warning"]


def test_pipeline_that_fails_is_named() -> None:
    def fail(one: dict) -> dict:
        raise ValueError("slice 3 is torn\nmore")

    found = try_pipeline(FakeSet([info("a"), info("b")], fail), 10)
    (finding,) = check_pipeline(found)
    assert finding.level == "error"
    assert "fails on 2 of 2 images: a: ValueError: slice 3 is torn" in finding.what


def test_wrapped_data_sets_give_samples() -> None:
    class Wrapped:
        def __len__(self) -> int:
            return 1

        def get_data_info(self, index: int) -> dict:
            return info("a")

        def __getitem__(self, index: int) -> dict:
            return sample([BOX])

    found = try_pipeline(Wrapped(), 8)
    assert (found.lesions_in, found.lesions_out, found.failures) == (1, 1, [])


def test_pipeline_is_tried_on_a_bounded_part() -> None:
    seen = []

    def look(one: dict) -> dict:
        seen.append(one["file_name"])
        return sample([BOX])

    data = FakeSet([info(str(index)) for index in range(100)], look)
    assert try_pipeline(data, 8).images == 8
    assert (seen[0], seen[-1]) == ("0", "91")
    assert try_pipeline(data, 8, budget=-1).images == 0


@pytest.mark.parametrize(
    ("out", "level"), [(100, "ok"), (95, "ok"), (94, "warning"), (49, "error")]
)
def test_lost_lesions(out: int, level: str) -> None:
    (finding,) = check_pipeline(PipelineFacts(images=50, lesions_in=100, lesions_out=out))
    assert finding.level == level
    assert f"loses {100 - out} of 100 lesions on 50 images" in finding.what


def test_ignored_lesions_are_not_expected() -> None:
    one = info("a")
    one["instances"][0]["ignore_flag"] = 1
    found = try_pipeline(FakeSet([one], lambda _: sample([])), 1)
    assert (found.lesions_in, found.losers) == (0, [])
