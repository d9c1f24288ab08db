"""A Mask R-CNN small enough for tests, with weights that make it answer to what it sees."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from deeplesion.models.inputs import CTInputs
from tests.conftest import REPO_ROOT

NAME = "mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py"
SMALL = REPO_ROOT / "configs/alignshift" / NAME
TINY = """
_base_ = "{base}"
model = dict(
    backbone=dict(num_init_features=16, growth_rate=16, block_config=(1, 1, 1)),
    neck=dict(in_channels=[32, 32, 32], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_convs=1, in_channels=16, conv_out_channels=16),
    ),
    test_cfg=dict(rpn=dict(max_per_img=30)),
)
"""
WINDOW = {"type": "WindowCT", "window": (-175, 275)}
META_KEYS = ("img_shape", "ori_shape", "scale_factor", "thickness", "file_name")


def write_mask_rcnn(folder: Path) -> tuple[Path, Path]:
    """Write config and checkpoint; batch norms know what slices look like."""
    config, checkpoint = folder / "tiny.py", folder / "tiny.pth"
    config.write_text(TINY.format(base=SMALL))
    init_default_scope("mmdet")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(config).model)
    logging.disable(logging.INFO)  # init_weights tells of every single weight
    model.init_weights()
    logging.disable(logging.NOTSET)
    with torch.no_grad():
        for _ in range(20):
            volume = torch.randn(1, 1, 7, 64, 64) * 80 + 80
            model.train().backbone(CTInputs(volume, torch.tensor([2.0])))
    torch.save({"state_dict": model.state_dict()}, checkpoint)
    return config, checkpoint


def steps_of(load: dict[str, Any], *others: dict[str, Any]) -> list[dict[str, Any]]:
    """A test pipeline."""
    pack = {"type": "PackDetInputs", "meta_keys": META_KEYS}
    return [{"type": "LoadCTSlices", "num_slices": 7, **load}, WINDOW, *others, pack]
