"""Overlaps with the +1 pixel."""

from __future__ import annotations

import pytest
import torch
from mmdet.registry import TASK_UTILS

from deeplesion.models.legacy.overlaps import box_overlaps

# 10 x 10 and 10 x 5 px, 5 x 5 of them shared; one pixel; and one far away.
BOXES = torch.tensor(
    [[0.0, 0, 9, 9], [5.0, 5, 14, 9], [0.0, 0, 0, 0], [50.0, 50, 59, 59]],
)


def test_iou_hand_computed() -> None:
    iou = box_overlaps(BOXES[:1], BOXES)
    torch.testing.assert_close(iou, torch.tensor([[1.0, 25 / 125, 1 / 100, 0.0]]))


def test_iof_is_over_the_first_boxes() -> None:
    iof = box_overlaps(BOXES[:3], BOXES[:1], mode="iof")
    torch.testing.assert_close(iof, torch.tensor([[1.0], [0.5], [1.0]]))


def test_aligned_boxes_are_compared_pair_by_pair() -> None:
    aligned = box_overlaps(BOXES[:3], BOXES[1:], is_aligned=True)
    assert torch.equal(aligned, box_overlaps(BOXES[:3], BOXES[1:]).diagonal())


def test_touching_pixels_do_not_overlap() -> None:
    left, right = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[5.0, 0, 9, 4]])
    assert box_overlaps(left, right).item() == 0


@pytest.mark.parametrize(("first", "second"), [(0, 4), (4, 0), (0, 0)])
def test_no_boxes(first: int, second: int) -> None:
    assert box_overlaps(BOXES[:first], BOXES[:second]).shape == (first, second)


def test_calculator_leaves_scores_out() -> None:
    calculator = TASK_UTILS.build({"type": "V1BboxOverlaps2D"})
    scored = torch.cat([BOXES, torch.ones(4, 1)], dim=1)
    assert torch.equal(calculator(BOXES, scored), box_overlaps(BOXES, BOXES))
    assert repr(calculator) == "V1BboxOverlaps2D()"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mode must be one of \('iou', 'iof'\), got 'giou'"):
        box_overlaps(BOXES, BOXES, mode="giou")
