"""Which proposals go on, and in what order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from deeplesion.models.legacy.rpn_head import V1RPNHead

# Two of 10 x 10 px that overlap (IoU 0.82), one of zero width, one far away.
BOXES = torch.tensor([[0.0, 0, 9, 9], [1.0, 0, 10, 9], [30.0, 5, 30, 9], [40.0, 40, 49, 49]])
SCORES = torch.tensor([0.6, 0.7, 0.5, 0.9])


def head() -> V1RPNHead:
    """A head with four anchors per pixel."""
    return MODELS.build(
        {
            "type": "V1RPNHead",
            "in_channels": 2,
            "feat_channels": 2,
            "anchor_generator": {
                "type": "LegacyAnchorGenerator",
                "scales": [2, 4],
                "ratios": [0.5, 2.0],
                "strides": [4],
                "centers": [(0.0, 0.0)],
            },
            "bbox_coder": {"type": "V1DeltaXYWHBBoxCoder"},
        }
    )


def choose(
    levels: tuple[int, ...] = (0, 0, 0, 0), boxes: Tensor = BOXES, **settings: Any
) -> InstanceData:
    """Proposals from boxes of some levels."""
    results = InstanceData(
        bboxes=boxes, scores=SCORES[: len(boxes)], level_ids=torch.tensor(levels, dtype=torch.long)
    )
    rescale = settings.pop("rescale", False)
    cfg = {"nms": {"type": "nms", "iou_threshold": 0.7}, "max_per_img": 10, "min_bbox_size": 0}
    meta = {"scale_factor": (2.0, 4.0)}
    return head()._bbox_post_process(results, ConfigDict(cfg | settings), rescale, img_meta=meta)


def test_kept_boxes_come_sorted_and_zero_width_is_no_reason_to_go() -> None:
    proposals = choose()
    assert proposals.scores.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert torch.equal(proposals.bboxes, BOXES[[3, 1, 2]])
    assert proposals.labels.tolist() == [0, 0, 0]
    assert set(proposals.keys()) == {"bboxes", "scores", "labels"}


def test_the_first_of_each_level_go_on_not_the_best() -> None:
    assert choose(nms_post=2).scores.tolist() == pytest.approx([0.7, 0.5])
    assert choose(max_per_img=2).scores.tolist() == pytest.approx([0.7, 0.5])
    assert choose((0, 0, 1, 1), nms_post=1).scores.tolist() == pytest.approx([0.7, 0.5])


def test_levels_are_suppressed_apart() -> None:
    assert choose((0, 1, 0, 1)).scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.5])
    assert choose((0, 1, 0, 1), nms_post=2, max_per_img=3).scores.tolist() == pytest.approx(
        [0.9, 0.7, 0.6]
    )


@pytest.mark.parametrize(("smallest", "count"), [(1, 3), (2, 2), (10, 2), (11, 0)])
def test_sizes_have_the_last_pixel(smallest: int, count: int) -> None:
    assert len(choose(min_bbox_size=smallest)) == count


def test_rescaling_comes_last() -> None:
    assert choose(rescale=True).bboxes[0].tolist() == [20, 10, 24.5, 12.25]


def test_no_boxes() -> None:
    proposals = choose((), BOXES[:0])
    assert proposals.bboxes.shape == (0, 4)
    assert proposals.labels.shape == (0,)


def test_predict_chooses_in_the_order_of_the_anchors_where_all_of_them_fit() -> None:
    torch.manual_seed(0)
    rpn = head()
    rpn.test_cfg = ConfigDict(
        nms_pre=100,
        max_per_img=3,
        nms={"type": "nms", "iou_threshold": 1.0},
        min_bbox_size=0,
    )
    scores, deltas = torch.randn(1, 4, 2, 2), torch.zeros(1, 16, 2, 2)
    meta = {"img_shape": (64, 64), "scale_factor": (1.0, 1.0)}
    proposals = rpn.predict_by_feat([scores], [deltas], batch_img_metas=[meta])[0]
    expected = scores[0, :3, 0, 0].sigmoid().sort(descending=True).values
    torch.testing.assert_close(proposals.scores, expected)
    rpn.test_cfg.nms_pre = 15
    proposals = rpn.predict_by_feat([scores], [deltas], batch_img_metas=[meta])[0]
    torch.testing.assert_close(proposals.scores, scores.sigmoid().flatten().topk(3).values)
