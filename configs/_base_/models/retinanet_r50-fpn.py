# mmdetection's RetinaNet on slices, with anchors half as large as COCO's, from 16 px.
_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "./r50_slices.py"]

model = dict(
    data_preprocessor=dict(_delete_=True, type="CTDataPreprocessor"),
    backbone=dict(_delete_=True, **_base_.slice_backbone),
    # Levels are dropped where slices collapse, so that no weight is left without a gradient.
    neck=[
        dict(_base_.slice_collapse, start_level=1),
        dict(_base_.model.neck, in_channels=[512, 1024, 2048], start_level=0),
    ],
    bbox_head=dict(
        type="JointRetinaHead", num_classes=1, anchor_generator=dict(octave_base_scale=2)
    ),
    test_cfg=dict(score_thr=0.001, max_per_img=50),
)
