"""Detections, masks and training of a small detector with the old numerics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from deeplesion.models.legacy.masks import crop_mask_targets, paste_masks
from tests.deeplesion.models.detectors import CHANNELS, SIZE, TINY, batch

BASE = "configs/_base_/models/mask-rcnn_densenet121_legacy.py"
WIDTH = 16


@pytest.fixture(scope="module")
def config(repo_root: Path) -> ConfigDict:
    """The model of the legacy base config, small."""
    model = Config.fromfile(repo_root / BASE).model
    model.backbone.update(init_cfg=None, **TINY)
    model.neck.update(in_channels=CHANNELS, out_channels=WIDTH)
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    for branch in ("bbox", "mask"):
        model.roi_head[f"{branch}_roi_extractor"].out_channels = WIDTH
        model.roi_head[f"{branch}_head"].in_channels = WIDTH
    model.roi_head.bbox_head.fc_out_channels = WIDTH
    model.roi_head.mask_head.conv_out_channels = WIDTH
    return model


@pytest.fixture
def detector(config: ConfigDict) -> nn.Module:
    """The small detector with random weights."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    return MODELS.build(config)


def test_base_config_has_the_old_components(detector: nn.Module) -> None:
    roi_head = detector.roi_head
    parts = (
        *(detector.rpn_head, detector.rpn_head.bbox_coder, roi_head, roi_head.bbox_roi_extractor),
        *(roi_head.bbox_head, roi_head.bbox_head.bbox_coder, roi_head.mask_roi_extractor),
        *(roi_head.mask_head, roi_head.bbox_assigner.iou_calculator),
        *(detector.rpn_head.assigner.iou_calculator, roi_head.mask_roi_extractor.roi_layers[0]),
    )
    assert all(type(part).__name__.startswith("V1") for part in parts)
    assert roi_head.mask_roi_extractor.roi_layers[0].output_size == (14, 14)
    assert detector.rpn_head.prior_generator.base_anchors[0][0].tolist() == [-11, -5, 11, 5]
    assert detector.data_preprocessor.pad_value == 0
    assert roi_head.train_cfg.soft_mask_target


def test_training_reaches_every_parameter(detector: nn.Module) -> None:
    data = detector.data_preprocessor(batch(), training=True)
    losses = detector.loss(data["inputs"], data["data_samples"])
    total, logged = detector.parse_losses(losses)
    total.backward()
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"} <= set(logged)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in logged.values())
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for part in ("backbone.conv0", "neck.laterals.0", "rpn_head.rpn_reg"):
        assert detector.get_submodule(part).weight.grad.abs().sum() > 0, part
    for part in ("bbox_head.fc_reg", "mask_head.conv_logits"):
        assert detector.roi_head.get_submodule(part).weight.grad.abs().sum() > 0, part


def test_a_batch_without_lesions_has_a_loss(detector: nn.Module) -> None:
    data = detector.data_preprocessor(batch(), training=True)
    for sample in data["data_samples"]:
        sample.gt_instances = sample.gt_instances[:0]
    total, _ = detector.parse_losses(detector.loss(data["inputs"], data["data_samples"]))
    total.backward()
    assert torch.isfinite(total)


def test_half_precision(detector: nn.Module) -> None:
    data = detector.data_preprocessor(batch(), training=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = detector.parse_losses(detector.loss(data["inputs"], data["data_samples"]))
        total.backward()
        found = predict(detector, 1.0, True)
    assert torch.isfinite(total)
    assert len(found) == 50


def predict(detector: nn.Module, scale: float, rescale: bool) -> InstanceData:
    """Detections of one image that was resized by ``scale`` on both axes."""
    data = detector.data_preprocessor(batch((2.0,)))
    original = round(SIZE / scale)
    data["data_samples"][0].set_metainfo(
        {"ori_shape": (original, original), "scale_factor": (scale, scale)}
    )
    with torch.no_grad():
        samples = detector.eval().predict(data["inputs"], data["data_samples"], rescale=rescale)
    return samples[0].pred_instances


def test_answers_in_px_of_the_original_image(detector: nn.Module) -> None:
    plain, rescaled = predict(detector, 1.0, True), predict(detector, 2.0, True)
    resized = predict(detector, 2.0, False)
    assert len(plain) == 50
    assert plain.masks.shape == (50, SIZE, SIZE)
    assert plain.masks.dtype == torch.bool
    assert rescaled.masks.shape[1:] == (SIZE // 2, SIZE // 2)
    assert resized.masks.shape[1:] == (SIZE, SIZE)
    assert torch.equal(resized.bboxes, plain.bboxes)
    assert float(rescaled.bboxes.max()) <= (SIZE - 1) / 2


def test_suppresses_in_px_of_the_answer(detector: nn.Module) -> None:
    # 4 x 4 and 4 x 3 px in the resized image overlap by 3 / 4; in the original one, half the size,
    # 2.5 x 2.5 and 2.5 x 2 px overlap by 4 / 5.
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 3.0, 2.0]])
    head = detector.roi_head.bbox_head
    arguments: dict[str, Any] = {
        "roi": torch.cat([torch.zeros(2, 1), boxes], dim=1),
        "cls_score": torch.tensor([[2.0, 0.0], [3.0, 0.0]]),
        "bbox_pred": torch.zeros(2, 4),
        "img_meta": {"img_shape": (SIZE, SIZE), "scale_factor": (2.0, 2.0)},
        "rcnn_test_cfg": ConfigDict(
            score_thr=0.001, nms={"type": "nms", "iou_threshold": 0.77}, max_per_img=50
        ),
    }
    assert torch.equal(head._predict_by_feat_single(**arguments).bboxes, boxes)
    rescaled = head._predict_by_feat_single(**arguments, rescale=True)
    assert torch.equal(rescaled.bboxes, boxes[1:] / 2)
    raw = head._predict_by_feat_single(**{**arguments, "rcnn_test_cfg": None})
    assert raw.scores.shape == (2, 2)


@pytest.mark.parametrize("rescale", [False, True])
def test_no_detections(detector: nn.Module, rescale: bool) -> None:
    detector.roi_head.test_cfg.score_thr = 2.0
    found = predict(detector, 1.0, rescale)
    assert found.bboxes.shape == (0, 4)
    assert found.masks.shape == (0, SIZE, SIZE)


def test_no_proposals(detector: nn.Module) -> None:
    sample = DetDataSample(
        metainfo={"img_shape": (SIZE,) * 2, "ori_shape": (SIZE,) * 2, "scale_factor": (1.0, 1.0)}
    )
    nothing = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    maps = (torch.zeros(1, WIDTH, 16, 16),)
    found = detector.roi_head.predict(maps, [nothing], [sample], rescale=True)[0]
    assert found.bboxes.shape == (0, 4)


def sampled(boxes: Tensor, lesions: list[int]) -> SamplingResult:
    """Positive RoIs that were given to some lesions."""
    result = SamplingResult.__new__(SamplingResult)
    result.pos_priors = boxes
    result.pos_assigned_gt_inds = torch.tensor(lesions, dtype=torch.long)
    return result


@pytest.mark.parametrize(("soft", "dtype"), [(True, np.float32), (False, np.uint8)])
def test_targets_are_cut_from_the_masks_of_the_lesions(
    detector: nn.Module, soft: bool, dtype: type
) -> None:
    masks = np.zeros((2, SIZE, SIZE), np.uint8)
    masks[0, :20, :20] = 1
    masks[1, 30:, 30:] = 1
    boxes = torch.tensor([[25.3, 25.0, 40.0, 41.0], [10.0, 12.5, 33.0, 29.0]])
    targets = detector.roi_head.mask_head.get_targets(
        [sampled(boxes, [1, 0]), sampled(boxes[:0], [])],
        [InstanceData(masks=BitmapMasks(masks, SIZE, SIZE))] * 2,
        ConfigDict(mask_size=28, soft_mask_target=soft),
    )
    expected = crop_mask_targets(masks[[1, 0]].astype(dtype), boxes.numpy(), (28, 28))
    np.testing.assert_array_equal(targets.numpy(), expected)
    assert bool(((targets > 0) & (targets < 1)).any()) == soft


@pytest.mark.parametrize("activated", [False, True])
def test_masks_of_resized_images(detector: nn.Module, activated: bool) -> None:
    logits = torch.randn(2, 1, 28, 28)
    boxes = torch.tensor([[4.0, 6.0, 30.0, 28.0], [10.0, 0.0, 50.0, 63.0]])
    meta = {"ori_shape": (16, 32), "scale_factor": (2.0, 4.0)}
    masks = detector.roi_head.mask_head._predict_by_feat_single(
        logits.sigmoid() if activated else logits,
        boxes,
        torch.zeros(2, dtype=torch.long),
        meta,
        ConfigDict(mask_thr_binary=0.5),
        rescale=True,
        activate_map=activated,
    )
    expected = paste_masks(
        logits[:, 0].sigmoid().numpy(), boxes.numpy() / [2, 4, 2, 4], (16, 32), 0.5
    )
    np.testing.assert_array_equal(masks.numpy(), expected)
    assert boxes[0].tolist() == [4, 6, 30, 28]
