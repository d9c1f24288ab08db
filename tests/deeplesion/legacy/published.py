"""A published checkpoint in small: a state dict of all its names, and a config as Python text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FAMILY_NAMES = ("align", "tsm", "a3d", "25d")
INIT, GROWTH, BOTTLENECK, BLOCKS = 16, 4, 8, (1, 2, 1)
NECK, FEAT, FC, MASK, MASK_CONVS = 16, 12, 20, 6, 2
ANCHORS, ROI_SIZE = 18, 7
# D of A3D's weights without effect, whatever the number of slices.
UNUSED_DEPTH = 3

# In the style of the published configs: variables, arithmetic, an import, a name that is not there.
CONFIG_TEXT = """/home/someone/configs/densenet.py
from deeplesion.ENVIRON import data_root
anchor_scales = [4, 6, 8, 12, 24, 48]
dataset_transform = dict(
    IMG_DO_CLIP=False, WINDOWING = [-1024, 2050], DATA_AUG_POSITION = False,
    NORM_SPACING = 0., SLICE_INTV = 2.0, NUM_SLICES = {slices}, GROUNP_ZSAPACING = False,
)
input_channel = dataset_transform['NUM_SLICES']
feature_channel = {neck}
weights2d_path = None,
model = dict(
    type='MaskRCNN',
    pretrained=False,
    backbone=dict(
        type='{backbone}', out_dim=feature_channel, fpn_finest_layer=2, {arguments}),
    rpn_head=dict(
        type='RPNHead', in_channels=feature_channel, feat_channels={feat},
        anchor_scales=anchor_scales, anchor_ratios=[0.5, 1., 2.0],
        anchor_base_sizes=[4], anchor_strides=[4],
        target_means=[.0, .0, .0, .0], target_stds=[1., 1., 1., 1.],
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0)),
    bbox_roi_extractor=dict(
        type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', out_size=7, sample_num=2),
        out_channels=feature_channel, featmap_strides=[4]),
    bbox_head=dict(
        type='SharedFCBBoxHead', num_fcs=2, in_channels=feature_channel, fc_out_channels={fc},
        roi_feat_size=7, num_classes=2, num_shared_convs=0,
        target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2], reg_class_agnostic=False,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
    mask_roi_extractor=dict(
        type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', out_size=14, sample_num=2),
        finest_scale=196,  # px², beyond ASCII
        out_channels=feature_channel, featmap_strides=[4]),
    mask_head=dict(
        type='FCNMaskHead', num_convs={mask_convs}, in_channels=feature_channel,
        conv_out_channels={mask}, num_classes=2,
        loss_mask=dict(type='DiceLoss', use_mask=True, loss_weight=1.0)))
train_cfg = dict(
    rpn=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3,
                      ignore_iof_thr=-1),
        sampler=dict(type='RandomSampler', num=32, pos_fraction=0.5, neg_pos_ub=-1,
                     add_gt_as_proposals=False),
        allowed_border=0, pos_weight=-1, debug=False),
    rpn_proposal=dict(nms_across_levels=False, nms_pre=12000, nms_post=2000, max_num=2000,
                      nms_thr=0.7, min_bbox_size=0),
    rcnn=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5,
                      ignore_iof_thr=-1),
        sampler=dict(type='RandomSampler', num=64, pos_fraction=0.25, neg_pos_ub=-1,
                     add_gt_as_proposals=True),
        mask_size=28, pos_weight=-1, debug=False))
test_cfg = dict(
    avgFP=[0.5, 1, 2, 4, 8, 16], iou_th_astrue=0.5,
    rpn=dict(nms_across_levels=False, nms_pre=6000, nms_post=300, max_num=300, nms_thr=0.7,
             min_bbox_size=0),
    rcnn=dict(score_thr=0.00005, nms=dict(type='nms', iou_thr=0.5), max_per_img=50,
              mask_thr_binary=0.5))
dataset_type = '{dataset}'
img_norm_cfg = dict(mean=[0.] * input_channel, std=[1.] * input_channel, to_rgb=False)
pre_pipeline = [
    dict(
        type='Albu',
        transforms=[dict(type='ShiftScaleRotate', shift_limit=0.04, scale_limit=0.2,
                         rotate_limit=15, interpolation=2, p=0.8)],
        bbox_params=dict(type='BboxParams', format='pascal_voc', label_fields=['gt_labels'],
                         min_visibility=0.0),
        keymap={{'img': 'image', 'gt_masks': 'masks', 'gt_bboxes': 'bboxes'}},
        update_pad_shape=False, skip_img_without_anno=False),
    dict(type='Resize', img_scale=(512, 512), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
]
pre_pipeline_test = [
    dict(type='Resize', img_scale=(512, 512), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
]
train_pipeline = [
    dict(type='DefaultFormatBundle_3d'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks', 'thickness']),
]
data = dict(
    imgs_per_gpu=2,
    workers_per_gpu=0,
    train=dict(
        type=dataset_type, ann_file=data_root + 'train_ann.pkl',
        image_path=data_root + 'Images_png/', pipeline=train_pipeline,
        pre_pipeline=pre_pipeline, dicm2png_cfg=dataset_transform),
        with_mask=True,
    val=dict(
        type=dataset_type, ann_file=data_root + 'val_ann.pkl',
        image_path=data_root + 'Images_png/', pipeline=train_pipeline,
        pre_pipeline=pre_pipeline_test, dicm2png_cfg=dataset_transform),
    test=dict(
        type=dataset_type, ann_file=data_root + 'test_ann.pkl',
        image_path=data_root + 'Images_png/', pipeline=train_pipeline,
        pre_pipeline=pre_pipeline_test, dicm2png_cfg=dataset_transform))
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=1/100, step=[9, 16])
checkpoint_config = dict(interval=1)
log_config = dict(interval=100, hooks=[dict(type='TextLoggerHook')])
total_epochs = 20
dist_params = dict(backend='nccl')
log_level = 'INFO'
work_dir = f'./work_dirs/densenet_{{input_channel}}'
load_from = None
resume_from = None
workflow = [('train', 1)]
GPU = '0,1,2,3'
description='small'
"""
BACKBONES = {
    "align": (
        "DenseNetCustomTrunc3dAlign",
        "DeepLesionDatasetAlign",
        "ref_thickness=2.0, n_fold=8",
    ),
    "tsm": ("DenseNetCustomTrunc3dTSM", "DeepLesionDatasetTSM", "n_fold=8"),
    "a3d": ("DenseNetCustomTrunc3dA3D", "DeepLesionDatasetA3D", ""),
    "25d": ("DenseNetCustomTrunc", "DeepLesionDataset25d", ""),
}


def config_text(name: str, slices: int = 3) -> str:
    """The config of a small published network."""
    backbone, dataset, arguments = BACKBONES[name]
    number = "in_channels" if name == "25d" else "n_cts"
    memory = "" if name == "25d" else ", memory_efficient=True"
    return CONFIG_TEXT.format(
        slices=slices,
        neck=NECK,
        backbone=backbone,
        dataset=dataset,
        arguments=f"{number}=input_channel, {arguments}".rstrip(", ") + memory,
        feat=FEAT,
        fc=FC,
        mask=MASK,
        mask_convs=MASK_CONVS,
    )


def state_dict(name: str, slices: int = 3, classes: int = 1) -> dict[str, Tensor]:
    """Random weights of a small published network, in the order of the published code."""
    generator = torch.Generator().manual_seed(0)
    shapes = {**_trunk(name, slices), **_heads(classes)}
    return {
        key: torch.zeros((), dtype=torch.int64)
        if key.endswith("num_batches_tracked")
        else torch.rand(shape, generator=generator)
        for key, shape in shapes.items()
    }


def checkpoint(name: str, slices: int = 3, **entries: Any) -> dict[str, Any]:
    """A published file's content."""
    meta = {
        "mmdet_version": "1.0rc1+unknown",
        "config": config_text(name, slices),
        "CLASSES": "lesion",
        "epoch": 20,
        "iter": 100,
    }
    return {"meta": meta, "state_dict": state_dict(name, slices), **entries}


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{name}.{part}": (channels,) for part in parts},
        f"{name}.num_batches_tracked": (),
    }


def _conv(name: str, family: str, out: int, channels: int, k: int, depth: int) -> dict:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": (out, channels, k, k)}
    if family == "a3d":
        shapes[f"{name}.adaptive_align_weights"] = (depth, depth, channels)
    return shapes


def _trunk(family: str, slices: int) -> dict[str, tuple[int, ...]]:
    stem = slices if family == "25d" else 1
    shapes = _conv("backbone.conv0", family, INIT, stem, 7, UNUSED_DEPTH)
    shapes |= _norm("backbone.norm0", INIT)
    channels, widths = INIT, []
    for block, layers in enumerate(BLOCKS, start=1):
        for layer in range(1, layers + 1):
            path = f"backbone.denseblock{block}.denselayer{layer}"
            shapes |= _norm(f"{path}.norm1", channels)
            shapes |= _conv(f"{path}.conv1", family, BOTTLENECK, channels, 1, slices)
            shapes |= _norm(f"{path}.norm2", BOTTLENECK)
            shapes |= _conv(f"{path}.conv2", family, GROWTH, BOTTLENECK, 3, slices)
            channels += GROWTH
        widths.append(channels)
        if family != "25d":
            reduction = f"backbone.reductionz{block}.reduction_z_conv.weight"
            shapes[reduction] = (channels, channels, slices, 1, 1)
        if block < len(BLOCKS):
            path = f"backbone.transition{block}"
            shapes |= _norm(f"{path}.norm", channels)
            shapes |= _conv(f"{path}.conv", family, channels // 2, channels, 1, UNUSED_DEPTH)
            channels //= 2
    for level, width in reversed([*enumerate(widths, start=2)]):
        shapes[f"backbone.lateral{level}.weight"] = (NECK, width, 1, 1)
        shapes[f"backbone.lateral{level}.bias"] = (NECK,)
    return shapes


def _heads(classes: int) -> dict[str, tuple[int, ...]]:
    with_background = 1 + classes
    weights: dict[str, tuple[int, ...]] = {
        "rpn_head.rpn_conv": (FEAT, NECK, 3, 3),
        "rpn_head.rpn_cls": (ANCHORS, FEAT, 1, 1),
        "rpn_head.rpn_reg": (4 * ANCHORS, FEAT, 1, 1),
        "bbox_head.fc_cls": (with_background, FC),
        "bbox_head.fc_reg": (4 * with_background, FC),
        "bbox_head.shared_fcs.0": (FC, NECK * ROI_SIZE**2),
        "bbox_head.shared_fcs.1": (FC, FC),
        "mask_head.convs.0.conv": (MASK, NECK, 3, 3),
        "mask_head.convs.1.conv": (MASK, MASK, 3, 3),
        "mask_head.upsample": (MASK, MASK, 2, 2),
        "mask_head.conv_logits": (with_background, MASK, 1, 1),
    }
    return {
        f"{name}.{part}": shape if part == "weight" else shape[:1]
        for name, shape in weights.items()
        for part in ("weight", "bias")
    }
