# The same detector, small enough to learn the synthetic data set in minutes on two CPU cores.
_base_ = "./mask-rcnn_densenet121.py"

model = dict(
    backbone=dict(num_init_features=16, growth_rate=16, block_config=(2, 6, 10), init_cfg=None),
    neck=dict(in_channels=[48, 120, 220], out_channels=64, num_slices=7),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[3, 4, 5, 6, 8, 10], ratios=[0.67, 1.0, 1.5]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=128),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64),
    ),
    train_cfg=dict(
        rpn=dict(allowed_border=-1),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=32)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)),
)
