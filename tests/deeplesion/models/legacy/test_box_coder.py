"""Decoding with the +1 pixel."""

from __future__ import annotations

import math

import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes

from deeplesion.models.legacy.box_coder import WH_RATIO_CLIP, V1DeltaXYWHBBoxCoder, delta_to_bbox

BOX = torch.tensor([[10.0, 20.0, 19.0, 39.0]])  # 10 x 20 px, center (14.5, 29.5)


def test_no_delta_leaves_a_box_alone() -> None:
    assert torch.equal(delta_to_bbox(BOX, torch.zeros(1, 4)), BOX)


def test_hand_computed() -> None:
    # By 5 px and -10 px, to 20 x 10 px.
    deltas = torch.tensor([[0.5, -0.5, math.log(2), math.log(0.5)]])
    decoded = delta_to_bbox(BOX, deltas)
    torch.testing.assert_close(decoded, torch.tensor([[10.0, 15.0, 29.0, 24.0]]))


def test_means_and_stds_of_several_classes() -> None:
    deltas = torch.tensor([[4.0, 0.0, 0.0, 0.0, 0.0, -5.0, 0.0, 0.0]])
    decoded = delta_to_bbox(BOX, deltas, means=(0.1, 0.0, 0.0, 0.0), stds=(0.1, 0.1, 0.2, 0.2))
    expected = torch.tensor([[15.0, 20.0, 24.0, 39.0, 11.0, 10.0, 20.0, 29.0]])
    torch.testing.assert_close(decoded, expected)


def test_corners_are_clipped_to_the_last_pixel() -> None:
    deltas = torch.tensor([[-2.0, 1.0, 0.0, 0.0]])
    decoded = delta_to_bbox(BOX, deltas, max_shape=(45, 64))
    torch.testing.assert_close(decoded, torch.tensor([[0.0, 40.0, 0.0, 44.0]]))


@pytest.mark.parametrize(("delta", "factor"), [(50.0, 1 / WH_RATIO_CLIP), (-50.0, WH_RATIO_CLIP)])
def test_growth_is_limited_both_ways(delta: float, factor: float) -> None:
    x1, _, x2, _ = delta_to_bbox(BOX, torch.tensor([[0.0, 0.0, delta, 0.0]]))[0].tolist()
    assert x2 - x1 + 1 == pytest.approx(10 * factor, rel=1e-4)


def test_coder_decodes_what_it_encodes() -> None:
    coder = TASK_UTILS.build({"type": "V1DeltaXYWHBBoxCoder", "target_stds": [0.1, 0.1, 0.2, 0.2]})
    assert isinstance(coder, V1DeltaXYWHBBoxCoder)
    boxes = torch.tensor([[3.0, 4.0, 20.0, 17.0], [0.0, 0.0, 0.0, 0.0]])
    lesions = torch.tensor([[5.0, 1.0, 25.0, 19.0], [2.0, 3.0, 2.0, 5.0]])
    torch.testing.assert_close(coder.decode(boxes, coder.encode(boxes, lesions)), lesions)


def test_coder_gives_box_types_where_asked() -> None:
    coder = V1DeltaXYWHBBoxCoder(use_box_type=True)
    decoded = coder.decode(HorizontalBoxes(BOX), torch.zeros(1, 4))
    assert isinstance(decoded, HorizontalBoxes)
    assert torch.equal(decoded.tensor, BOX)


def test_no_boxes() -> None:
    assert delta_to_bbox(torch.zeros(0, 4), torch.zeros(0, 4), max_shape=(8, 8)).shape == (0, 4)
