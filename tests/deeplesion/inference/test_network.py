"""A detector on prepared stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from deeplesion.engine.config import UsageError
from deeplesion.inference.network import (
    StackNetwork,
    crop_mask,
    raise_score_threshold,
    to_detections,
)
from deeplesion.inference.pipeline import PreparedSlice
from tests.deeplesion.models.detectors import SIZE, batch, stock_detector


@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet"])
def test_every_stock_detector_takes_slices_that_are_through_the_stem(name: str) -> None:
    torch.manual_seed(0)
    model = stock_detector(name).eval()
    data = batch((5.0,))
    with torch.no_grad():
        (wanted,) = model.test_step(data)
    network = StackNetwork(model)
    meta = {"img_shape": (SIZE, SIZE), "ori_shape": (SIZE, SIZE), "scale_factor": (1.0, 1.0)}
    slices = [PreparedSlice(plane.numpy(), meta) for plane in batch((5.0,))["inputs"][0]]
    maps, found_meta = network.slice_features(slices, 5.0)
    assert network.shares_stem
    assert maps[0].shape == (SIZE // 4, SIZE // 4, 8)
    (found,) = network.predict([maps], found_meta)
    assert len(found) == len(wanted.pred_instances)
    torch.testing.assert_close(found.scores, wanted.pred_instances.scores, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.bboxes, wanted.pred_instances.bboxes, atol=1e-2, rtol=0)


def test_models_that_do_not_take_ct_are_refused() -> None:
    with pytest.raises(UsageError, match="must have CTDataPreprocessor"):
        StackNetwork(nn.Linear(1, 1))


def test_thresholds_are_raised_and_never_lowered() -> None:
    model = nn.Module()
    model.roi_head, model.bbox_head = nn.Module(), nn.Module()
    model.roi_head.test_cfg = ConfigDict(score_thr=0.001)
    model.bbox_head.test_cfg = ConfigDict(max_per_img=100)  # DETR's kind has no threshold
    for threshold, expected in ((0.1, 0.1), (0.05, 0.1)):
        raise_score_threshold(model, threshold)
        assert model.roi_head.test_cfg.score_thr == expected
    assert "score_thr" not in model.bbox_head.test_cfg


def test_masks_are_cropped() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = [[True, False, False, True], [False, True, False, False]]
    crop = crop_mask(mask, np.array([0.0, 0, 7, 5]))
    assert (crop.x, crop.y) == (3, 2)
    assert np.array_equal(crop.pixels, mask[2:4, 3:7])


@pytest.mark.parametrize(
    ("box", "place"), [([2.0, 1, 4, 3], (3, 2)), ([6.0, 4, 20, 20], (7, 5)), ([-9.0] * 4, (0, 0))]
)
def test_an_empty_mask_is_in_the_middle_of_its_box(box: list, place: tuple[int, int]) -> None:
    crop = crop_mask(np.zeros((6, 8), bool), np.array(box))
    assert (crop.x, crop.y) == place
    assert crop.pixels.tolist() == [[False]]


def test_boxes_are_shifted_and_faint_ones_left_out() -> None:
    found = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]), scores=torch.tensor([0.1, 0.9])
    )
    detections = to_detections(7, found, np.array([-0.5, 0.25, -0.5, 0.25]), 0.5, (8, 8))
    assert detections.z == 7
    assert detections.boxes.tolist() == [[0.5, 1.25, 2.5, 3.25]]
    assert detections.scores == pytest.approx([0.9])
    assert detections.masks == ()


def test_boxes_end_at_the_centers_of_the_last_pixels() -> None:
    found = InstanceData(
        bboxes=torch.tensor([[-1.0, 0, 6, 4], [5, 3.5, 6, 4]]), scores=torch.tensor([0.9, 0.8])
    )
    detections = to_detections(0, found, np.full(4, -0.25), 0.5, (4, 6))
    assert detections.boxes.tolist() == [[0, 0, 5, 3], [4.75, 3, 5, 3]]


def test_precision_is_that_of_the_detectors_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeplesion.inference.network.has_bfloat16", lambda: False)  # an old GPU
    network = StackNetwork(stock_detector("retinanet"), amp=True)
    with network._precision():
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16
