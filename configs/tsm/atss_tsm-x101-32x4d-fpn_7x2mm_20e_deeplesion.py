_base_ = "./atss_tsm-r50-fpn_7x2mm_20e_deeplesion.py"

model = dict(
    backbone=dict(
        backbone=dict(
            type="ResNeXt",
            depth=101,
            groups=32,
            base_width=4,
            init_cfg=dict(checkpoint="open-mmlab://resnext101_32x4d"),
        )
    )
)
