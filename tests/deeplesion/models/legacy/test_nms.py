"""Suppression with the +1 pixel, and the order of what is kept."""

from __future__ import annotations

import pytest
import torch

from deeplesion.models.legacy.nms import iou_threshold_of, multiclass_nms, nms_in_order

# 10 x 10 px each; the second shares 9 x 10 px with the first, the third none.
BOXES = torch.tensor([[0.0, 0, 9, 9], [1.0, 0, 10, 9], [40.0, 40, 49, 49]])
IOU = 90 / 110


def test_kept_boxes_come_in_the_order_given() -> None:
    scores = torch.tensor([0.5, 0.6, 0.9])
    assert nms_in_order(BOXES, scores, 0.5).tolist() == [1, 2]


@pytest.mark.parametrize(("threshold", "kept"), [(IOU - 1e-3, [0, 2]), (IOU + 1e-3, [0, 1, 2])])
def test_overlaps_count_the_last_pixel(threshold: float, kept: list[int]) -> None:
    # Without the +1 pixel the IoU is 72 / 90, well below the lower threshold.
    assert nms_in_order(BOXES, torch.tensor([0.9, 0.6, 0.5]), threshold).tolist() == kept


def test_an_iou_that_equals_the_threshold_is_kept() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0.0, 0, 9, 4]])
    assert nms_in_order(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]


def test_nothing_to_suppress() -> None:
    assert nms_in_order(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []


def test_as_many_detections_as_allowed_come_unsorted() -> None:
    scores = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1]])
    dets, labels = multiclass_nms(BOXES, scores, 0.001, 0.5, max_num=2)
    assert dets[:, 4].tolist() == pytest.approx([0.6, 0.9])
    assert torch.equal(dets[:, :4], BOXES[1:])
    assert labels.tolist() == [0, 0]


def test_of_more_the_best_come_sorted() -> None:
    scores = torch.tensor([[0.5, 0.5], [0.6, 0.4], [0.9, 0.1]])
    dets, _ = multiclass_nms(BOXES, scores, 0.001, 0.9, max_num=2)
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.6])
    dets, _ = multiclass_nms(BOXES, scores, 0.001, 0.9, max_num=-1)
    assert dets[:, 4].tolist() == pytest.approx([0.5, 0.6, 0.9])


def test_classes_are_suppressed_apart_and_only_above_the_score() -> None:
    boxes = BOXES.repeat(1, 2)
    boxes[2, 4:] += 10
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]])
    dets, labels = multiclass_nms(boxes, scores, 0.2, 0.5, max_num=10)
    assert labels.tolist() == [0, 0, 1, 1]
    assert dets[:, 4].tolist() == pytest.approx([0.7, 0.5, 0.8, 0.3])
    assert dets[3, :4].tolist() == [50, 50, 59, 59]


def test_no_detection() -> None:
    dets, labels = multiclass_nms(BOXES, torch.tensor([[0.0, 1.0]] * 3), 0.1, 0.5, max_num=10)
    assert dets.shape == (0, 5)
    assert labels.shape == (0,)


def test_settings() -> None:
    assert iou_threshold_of({"type": "nms", "iou_threshold": 0.7}) == 0.7
    with pytest.raises(ValueError, match=r"of type 'nms' with .* version 1, got 'soft_nms'"):
        iou_threshold_of({"type": "soft_nms", "iou_threshold": 0.7})
