"""mmdetection's own detector configs on a tiny thickness-aware backbone."""

from __future__ import annotations

from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from tests.configs.shrinking import narrowed

STOCK_CONFIGS = {
    "mask-rcnn": "_base_/models/mask-rcnn_r50_fpn.py",
    "faster-rcnn": "_base_/models/faster-rcnn_r50_fpn.py",
    "cascade-mask-rcnn": "_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "retinanet": "_base_/models/retinanet_r50_fpn.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
}
TINY = {"num_init_features": 8, "growth_rate": 8, "block_config": (1, 1, 1), "bn_size": 2}
CHANNELS = [16, 16, 16]
SIZE = 64


def stock_detector(name: str, num_slices: int = 3) -> nn.Module:
    """Build a stock detector with an AlignShift backbone."""
    init_default_scope("mmdet")
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    model = Config.fromfile(configs / STOCK_CONFIGS[name]).model
    if name != "fcos":  # whose 32 groups of channels need more than one channel each
        model = ConfigDict(narrowed(model))
    model.data_preprocessor = {"type": "CTDataPreprocessor", "pad_mask": "mask" in name}
    model.backbone = {"type": "DenseNetCustomTrunc3dAlign", **TINY}
    start = model.neck.get("start_level", 0)
    collapse = {"type": "SliceCollapse", "in_channels": CHANNELS, "start_level": start}
    fpn = {**model.neck, "in_channels": CHANNELS[start:], "start_level": 0}
    model.neck = [{**collapse, "num_slices": num_slices}, fpn]
    if "roi_head" in model:
        # Hundreds of RoIs, and their masks, are what takes a CPU longest.
        for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
            proposals.max_per_img = 50
        model.test_cfg.rcnn.max_per_img = 10
    return MODELS.build(model)


def batch(thickness: tuple[float, ...] = (2.0, 5.0), num_slices: int = 3, seed: int = 0) -> dict:
    """Samples as the dataloader gives them: one lesion each, with its mask."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for index, millimetres in enumerate(thickness):
        sample = DetDataSample(
            metainfo={
                "img_id": index,
                "img_shape": (SIZE, SIZE),
                "ori_shape": (SIZE, SIZE),
                "scale_factor": (1.0, 1.0),
                "thickness": millimetres,
            }
        )
        mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        mask[:, 16:40, 12:36] = 1
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[12.0, 16.0, 36.0, 40.0]]),
            labels=torch.zeros(1, dtype=torch.long),
            masks=BitmapMasks(mask.numpy(), SIZE, SIZE),
        )
        samples.append(sample)
    inputs = [torch.randn(num_slices, SIZE, SIZE, generator=generator) * 50 for _ in thickness]
    return {"inputs": inputs, "data_samples": samples}
