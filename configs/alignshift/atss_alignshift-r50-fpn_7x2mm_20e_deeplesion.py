_base_ = [
    "../_base_/models/atss_r50-fpn.py",
    "../_base_/datasets/deeplesion_7x2mm_boxes.py",
    "../_base_/schedules/schedule_20e_one-stage.py",
    "../_base_/default_runtime.py",
]
