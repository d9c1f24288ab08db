_base_ = [
    "../_base_/models/mask-rcnn_r50-fpn.py",
    "../_base_/datasets/deeplesion_7x2mm_always.py",
    "../_base_/schedules/schedule_20e.py",
    "../_base_/default_runtime.py",
]

model = dict(backbone=dict(operator=dict(type="TSMConv")))
