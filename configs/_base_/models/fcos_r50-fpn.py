# mmdetection's FCOS with its improvements (fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-
# giou) on slices. Levels begin at stride 4 rather than 8: a lesion is learned by the points that it
# holds, and of a coarser grid many lesions would hold none.
_base_ = "./r50_slices.py"

model = dict(
    type="FCOS",
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
            relu_before_extra_convs=True,
        ),
    ],
    bbox_head=dict(
        type="FCOSHead",
        num_classes=1,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[4, 8, 16, 32, 64],
        regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 256), (256, 1e8)),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        conv_bias=True,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=50,
    ),
)
