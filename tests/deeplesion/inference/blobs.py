"""A detector that needs no training: it answers to bright balls, by weights set by hand.

The stem averages 7 x 7 px of a slice windowed to what is brighter than bone, the neck takes the
middle slice of the stack, and a RetinaNet head with one anchor scores the mean of what is about
it. So all of a real detector is at work, and where a ball is planted is where it must be found.
"""

from __future__ import annotations

from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from numpy.typing import NDArray

BALL_HU = 3000
CHANNELS, SIDE, BOX = 4, 512, 24
CONFIG = """
default_scope = "mmdet"
custom_imports = dict(imports=["deeplesion"], allow_failed_imports=False)
model = dict(
    type="RetinaNet",
    data_preprocessor=dict(type="CTDataPreprocessor"),
    backbone=dict(
        type="DenseNetCustomTrunc3dAlign", num_init_features=4, growth_rate=4, block_config=(1,),
        n_fold=4,
    ),
    neck=dict(type="SliceCollapse", in_channels=[8], num_slices=3),
    bbox_head=dict(
        type="RetinaHead",
        num_classes=1,
        in_channels=8,
        stacked_convs=0,
        feat_channels=8,
        anchor_generator=dict(type="AnchorGenerator", scales=[{scale}], ratios=[1.0], strides=[4]),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.1),
        max_per_img=10,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type="DeepLesionDataset",
        pipeline=[
            dict(type="LoadCTSlices", num_slices=3, slice_interval=2.0),
            dict(type="WindowCT", window=(2000, 3000), scale=1.0, offset=0.0),
            dict(type="Resize", scale=({side}, {side}), keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    )
)
"""


def write_blob_detector(folder: Path, side: int = SIDE, box: float = BOX) -> tuple[Path, Path]:
    """Write config and checkpoint; slices are resized to ``side`` px, boxes have ``box`` px."""
    config, checkpoint = folder / "blobs.py", folder / "blobs.pth"
    config.write_text(CONFIG.format(scale=box / 4, side=side))
    init_default_scope("mmdet")
    model = MODELS.build(Config.fromfile(config).model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.backbone.conv0.weight[0] = 1 / 49
        model.backbone.norm0.weight.fill_(1.0)
        model.neck.reductions[0].weight[0, 0, 1] = 1.0
        head = model.bbox_head
        head.retina_cls.weight[0, 0] = 10 / 9
        head.retina_cls.bias.fill_(-5.0)
    torch.save(model.state_dict(), checkpoint)
    return config, checkpoint


def plant_ball(
    hu: NDArray[np.int16], spacing: NDArray[np.float64], center: tuple[int, int, int], radius: float
) -> None:
    """Put a bright ball into ``(D, H, W)``; center in voxels x, y, z, radius in mm."""
    z, y, x = np.indices(hu.shape)
    steps = (np.stack([x, y, z], -1) - center) * spacing
    hu[np.linalg.norm(steps, axis=-1) <= radius] = BALL_HU
