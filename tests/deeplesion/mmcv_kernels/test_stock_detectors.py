"""mmdetection's own detectors, from its own configs, meet no operator that is not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from torch import Tensor

from tests.configs.shrinking import narrowed

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
SOFT_NMS = {"type": "soft_nms", "iou_threshold": 0.5, "min_score": 0.01}
DEFORMABLE = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
STOCK = {
    "faster-rcnn": "_base_/models/faster-rcnn_r50_fpn.py",
    "mask-rcnn": "_base_/models/mask-rcnn_r50_fpn.py",
    "cascade-mask-rcnn": "_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "retinanet": "_base_/models/retinanet_r50_fpn.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "deformable-detr": "deformable_detr/deformable-detr_r50_16xb2-50e_coco.py",
    "dino": "dino/dino-4scale_r50_8xb2-12e_coco.py",
}


def small_model(name: str) -> Any:
    """A stock model's config, small: few channels, few proposals, no pretrained weights."""
    register_all_modules(init_default_scope=False)
    model = Config.fromfile(CONFIGS / STOCK[name]).model
    model.backbone.init_cfg = None
    if "encoder" in model:  # of which mmdetection 3.3 takes the width for granted
        model.backbone.base_channels = 8
        model.neck.in_channels = [channels // 8 for channels in model.neck.in_channels]
    else:
        model.backbone.base_channels = 64  # stands in no config, as it is the default
        model = narrowed(model)
    model = ConfigDict(model, _scope_="mmdet")
    if "roi_head" in model:
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.fc_out_channels = 32
        for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
            proposals.max_per_img = 50
    if "encoder" in model:
        # A small image has few pixels to choose queries from.
        model.num_queries = 20
        model.encoder.num_layers = model.decoder.num_layers = 2
    model.test_cfg.get("rcnn", model.test_cfg).update(score_thr=0.001, max_per_img=5)
    return model


def losses(detector: torch.nn.Module, with_mask: bool) -> torch.Tensor:
    """Sum of the losses of one training step on two 64 px images."""
    data = detector.data_preprocessor(batch(with_mask), training=True)
    return detector.parse_losses(detector(**data, mode="loss"))[0]


def batch(with_mask: bool) -> dict:
    """Two random images with boxes."""
    return demo_mm_inputs(2, (3, 64, 64), num_items=[2, 3], num_classes=2, with_mask=with_mask)


def predict(detector: torch.nn.Module) -> list:
    """Detections in two images, nearly nothing thrown away."""
    detector.eval()
    with torch.no_grad():
        return detector.test_step(batch(with_mask=False))


def assert_every_gradient_is_finite(detector: torch.nn.Module) -> None:
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", STOCK)
def test_loss_and_predict(name: str) -> None:
    torch.manual_seed(0)
    model = small_model(name)
    with_mask = "mask" in name
    detector = MODELS.build(model)
    detector.init_weights()
    losses(detector, with_mask).backward()
    assert_every_gradient_is_finite(detector)
    found = predict(detector)
    assert len(found) == 2
    for sample in found:
        assert sample.pred_instances.bboxes.isfinite().all()
        assert ("masks" in sample.pred_instances) == with_mask
    assert sum(len(sample.pred_instances) for sample in found) > 0


@pytest.mark.parametrize("name", ["deformable-detr", "dino"])
def test_detr_with_the_operator_that_mmcv_has_for_cuda(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same_on_cpu(value: Tensor, shapes: Tensor, points: Tensor, weights: Tensor) -> Tensor:
        start = shapes.prod(1).cumsum(0) - shapes.prod(1)
        return MultiScaleDeformableAttnFunction.apply(value, shapes, start, points, weights, 64)

    results = []
    for replaced in (False, True):
        if replaced:
            fallback = "mmcv.ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch"
            monkeypatch.setattr(fallback, same_on_cpu)
        torch.manual_seed(0)
        detector = MODELS.build(small_model(name))
        detector.init_weights()
        loss = losses(detector, with_mask=False)
        loss.backward()
        gradients = [p.grad for p in detector.parameters() if p.grad is not None]
        results.append([loss, *gradients])
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-3)


def test_deformable_trunk_and_soft_nms_under_autocast() -> None:
    torch.manual_seed(0)
    model = small_model("mask-rcnn")
    model.backbone.update(dcn=DEFORMABLE, stage_with_dcn=(False, True, True, True))
    model.test_cfg.rcnn.nms = SOFT_NMS
    detector = MODELS.build(model)
    with torch.autocast("cpu", torch.bfloat16):
        losses(detector, with_mask=True).backward()
        found = predict(detector)
    assert_every_gradient_is_finite(detector)
    assert sum(len(sample.pred_instances) for sample in found) > 0
