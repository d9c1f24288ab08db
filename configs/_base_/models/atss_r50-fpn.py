# mmdetection's ATSS (atss_r50_fpn) on slices. Levels begin at stride 4 rather than 8: an anchor is
# positive only if its center is in the lesion, and in a coarser grid many lesions would have none.
_base_ = "./r50_slices.py"

model = dict(
    type="ATSS",
    data_preprocessor=dict(type="CTDataPreprocessor"),
    backbone=_base_.slice_backbone,
    neck=[
        _base_.slice_collapse,
        dict(
            type="FPN",
            in_channels=_base_.slice_collapse.in_channels,
            out_channels=256,
            add_extra_convs="on_output",
            num_outs=5,
        ),
    ],
    bbox_head=dict(
        type="ATSSHead",
        num_classes=1,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[4, 8, 16, 32, 64],
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=50,
    ),
)
