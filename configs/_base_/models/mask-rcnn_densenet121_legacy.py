# Mask R-CNN on the truncated DenseNet-121 with the numerics of mmdetection 1.x, for the published
# weights: boxes end with their last pixel. docs/parity.md says what that changes.
_base_ = "mask-rcnn_densenet121.py"

model = dict(
    # The published pipeline padded after the window, with 0.
    data_preprocessor=dict(pad_value=0.0),
    rpn_head=dict(
        type="V1RPNHead",
        anchor_generator=dict(type="LegacyAnchorGenerator", centers=[(0.0, 0.0)]),
        bbox_coder=dict(type="V1DeltaXYWHBBoxCoder"),
    ),
    roi_head=dict(
        type="V1StandardRoIHead",
        bbox_roi_extractor=dict(type="V1SingleRoIExtractor", roi_layer=dict(type="V1RoIAlign")),
        bbox_head=dict(type="V1Shared2FCBBoxHead", bbox_coder=dict(type="V1DeltaXYWHBBoxCoder")),
        mask_roi_extractor=dict(type="V1SingleRoIExtractor", roi_layer=dict(type="V1RoIAlign")),
        mask_head=dict(type="V1FCNMaskHead"),
    ),
    train_cfg=dict(
        rpn=dict(assigner=dict(iou_calculator=dict(type="V1BboxOverlaps2D"))),
        rcnn=dict(
            assigner=dict(iou_calculator=dict(type="V1BboxOverlaps2D")), soft_mask_target=True
        ),
    ),
)
