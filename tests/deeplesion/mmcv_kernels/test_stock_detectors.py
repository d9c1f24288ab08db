"""mmdetection's own detectors, from its own configs, meet no operator that is not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
SOFT_NMS = {"type": "soft_nms", "iou_threshold": 0.5, "min_score": 0.01}
DEFORMABLE = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
STOCK = {
    "faster-rcnn": "_base_/models/faster-rcnn_r50_fpn.py",
    "mask-rcnn": "_base_/models/mask-rcnn_r50_fpn.py",
    "cascade-mask-rcnn": "_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "retinanet": "_base_/models/retinanet_r50_fpn.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}


def small_model(name: str) -> Any:
    """A stock model's config, small: few channels, few proposals, no pretrained weights."""
    register_all_modules(init_default_scope=False)
    model = Config.fromfile(CONFIGS / STOCK[name]).model
    model["_scope_"] = "mmdet"
    model.backbone.update(base_channels=8, init_cfg=None)
    model.neck.in_channels = [channels // 8 for channels in model.neck.in_channels]
    if "roi_head" in model:
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.fc_out_channels = 32
        for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
            proposals.max_per_img = 50
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
    losses(detector, with_mask).backward()
    assert_every_gradient_is_finite(detector)
    found = predict(detector)
    assert len(found) == 2
    for sample in found:
        assert sample.pred_instances.bboxes.isfinite().all()
        assert ("masks" in sample.pred_instances) == with_mask
    assert sum(len(sample.pred_instances) for sample in found) > 0


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
