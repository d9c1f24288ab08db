_base_ = [
    "../_base_/models/atss_r50-fpn.py",
    "../_base_/datasets/deeplesion_7x2mm_always_boxes.py",
    "../_base_/schedules/schedule_20e_one-stage.py",
    "../_base_/default_runtime.py",
]

model = dict(backbone=dict(operator=dict(type="TSMConv")))
