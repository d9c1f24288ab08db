# mmdetection's Cascade Mask R-CNN on slices, with what mask-rcnn_r50-fpn.py has for lesions.
_base_ = ["mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py", "./r50_slices.py"]

model = dict(
    data_preprocessor=dict(_delete_=True, type="CTDataPreprocessor", pad_mask=True),
    backbone=dict(_delete_=True, **_base_.slice_backbone),
    neck=[_base_.slice_collapse, _base_.model.neck],
    rpn_head=dict(type="JointRPNHead", anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_head=[
            dict(head, type="JointShared2FCBBoxHead", num_classes=1)
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(
            type="JointFCNMaskHead",
            num_classes=1,
            loss_mask=dict(_delete_=True, type="MaskDiceLoss"),
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(type="SeededRandomSampler", num=32)),
        rcnn=[
            dict(stage, sampler=dict(stage.sampler, type="SeededRandomSampler", num=64))
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001, max_per_img=50)),
)
