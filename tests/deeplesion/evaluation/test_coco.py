"""AP by hand and against pycocotools run on a JSON file as its documentation says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deeplesion.evaluation.coco import coco_ap
from tests.deeplesion.evaluation.test_matching import images

HIT = [0, 0, 9, 9]
OTHER = [20, 20, 29, 29]
FAR = [50, 50, 59, 59]


def as_published(
    detections: list, lesions: list, folder: Path, capsys: pytest.CaptureFixture[str]
) -> dict[str, float]:
    """AP and AP50 of pycocotools, boxes read from files."""
    sides = lambda b: [b[0], b[1], b[2] - b[0] + 1, b[3] - b[1] + 1]  # noqa: E731
    truth = [
        {
            "id": 100 * image + number + 1,
            "image_id": image,
            "category_id": 1,
            "bbox": sides(box),
            "area": sides(box)[2] * sides(box)[3],
            "iscrowd": 0,
        }
        for image, there in enumerate(lesions)
        for number, box in enumerate(there)
    ]
    found = [
        {"image_id": image, "category_id": 1, "bbox": sides(box), "score": box[4]}
        for image, boxes in enumerate(detections)
        for box in boxes
    ]
    numbered = [{"id": image, "width": 512, "height": 512} for image in range(len(lesions))]
    content = {"images": numbered, "annotations": truth, "categories": [{"id": 1, "name": "l"}]}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "found.json").write_text(json.dumps(found))
    coco = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    return {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}


def test_by_hand() -> None:
    # By score: a hit, a false positive, the other lesion. Precision is 1 up to a recall of 1/2, at
    # 51 of the 101 recalls that COCO looks at, and 2/3 beyond.
    detections = [[[*HIT, 0.9], [*FAR, 0.8]], [[*OTHER, 0.7]]]
    by_hand = (51 + 50 * 2 / 3) / 101
    assert coco_ap(detections, [[HIT], [OTHER]]) == pytest.approx({"AP": by_hand, "AP50": by_hand})


def test_ap_is_the_mean_over_ten_ious() -> None:
    # An IoU of 0.7, widths counted with both end pixels, counts at 0.5, 0.55, ... 0.7: 5 of 10.
    found = coco_ap([[[0, 0, 9, 6, 0.9]]], [[HIT]])
    assert found == pytest.approx({"AP": 0.5, "AP50": 1.0})


def test_a_duplicate_is_a_false_positive() -> None:
    # It comes before the hit on the other lesion: precision 1, then 2/3.
    detections = [[[*HIT, 0.9], [*HIT, 0.8], [*OTHER, 0.7]]]
    assert coco_ap(detections, [[HIT, OTHER]])["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_boxes_of_highest_score_count() -> None:
    crowd = [[*FAR, 0.9]] * 100
    assert coco_ap([[*crowd, [*HIT, 0.1]]], [[HIT]])["AP50"] == 0
    found = coco_ap([[*crowd, [*HIT, 0.1]]], [[HIT]], max_detections=101)
    assert found["AP50"] == pytest.approx(1 / 101)


def test_nothing_found_and_nothing_there() -> None:
    assert coco_ap([[]], [[HIT]]) == {"AP": 0, "AP50": 0}
    assert all(math.isnan(value) for value in coco_ap([[[*HIT, 0.9]]], [[]]).values())
    assert all(math.isnan(value) for value in coco_ap([], []).values())


def test_a_lesion_of_one_pixel_and_a_box_inside_out() -> None:
    assert coco_ap([[[5, 5, 5, 5, 0.9]]], [[[5, 5, 5, 5]]])["AP"] == pytest.approx(1)
    inside_out = coco_ap([[[9, 0, 0, 9, 0.9], [*HIT, 0.8]]], [[HIT]])
    assert inside_out["AP50"] == pytest.approx(0.5)


def test_equals_pycocotools_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    detections, lesions = [], []
    for _ in range(30):
        corners = rng.uniform(0, 100, (rng.integers(0, 4), 2))
        there = np.hstack([corners, corners + rng.uniform(5, 40, corners.shape)])
        near = np.repeat(there, 2, axis=0) + rng.normal(0, 4, (2 * len(there), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        corners = rng.uniform(0, 60, (3, 2))
        boxes = np.vstack([near, np.hstack([corners, corners + 50])])
        scores = rng.permutation(100)[: len(boxes), None] / 100
        detections.append(np.hstack([boxes, scores]).tolist())
        lesions.append(there.tolist())
    expected = as_published(detections, lesions, tmp_path, capsys)
    assert 0.05 < expected["AP"] < expected["AP50"] < 0.95
    assert coco_ap(detections, lesions) == pytest.approx(expected, abs=1e-12)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_ap([[[*HIT, 0.9]]], [[HIT]])
    assert capsys.readouterr() == ("", "")


@settings(max_examples=50, deadline=None)
@given(data=images)
def test_ap_is_a_share_and_not_above_ap50(data: list[tuple[list, list]]) -> None:
    found = coco_ap([d for d, _ in data], [g for _, g in data])
    assert math.isnan(found["AP"]) or 0 <= found["AP"] <= found["AP50"] + 1e-12 <= 1 + 2e-12


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="detections of image 1: score must not be NaN"):
        coco_ap([[], [[*HIT, math.nan]]], [[HIT], []])
