_base_ = [
    "../_base_/models/mask-rcnn_r50-fpn.py",
    "../_base_/datasets/deeplesion_7x2mm_always_multiscale.py",
    "../_base_/schedules/schedule_36e.py",
]

model = dict(backbone=dict(operator=dict(type="I3DConv")))
