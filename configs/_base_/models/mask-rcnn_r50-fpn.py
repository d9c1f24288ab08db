# mmdetection's Mask R-CNN on slices; anchors, samples and mask loss are those for lesions.
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "./r50_slices.py"]

model = dict(
    data_preprocessor=dict(_delete_=True, type="CTDataPreprocessor", pad_mask=True),
    backbone=dict(_delete_=True, **_base_.slice_backbone),
    neck=[_base_.slice_collapse, _base_.model.neck],
    rpn_head=dict(
        type="JointRPNHead",
        anchor_generator=dict(scales=[4]),  # 16 to 256 px, half of COCO's
    ),
    roi_head=dict(
        bbox_head=dict(type="JointShared2FCBBoxHead", num_classes=1),
        mask_head=dict(
            type="JointFCNMaskHead",
            num_classes=1,
            loss_mask=dict(_delete_=True, type="MaskDiceLoss"),
        ),
    ),
    # As in the papers: few samples, as there are one or two lesions on a slice.
    train_cfg=dict(
        rpn=dict(sampler=dict(type="SeededRandomSampler", num=32)),
        rcnn=dict(sampler=dict(type="SeededRandomSampler", num=64)),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001, max_per_img=50)),
)
