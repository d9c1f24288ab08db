_base_ = [
    "../_base_/models/dino_r50.py",
    "../_base_/datasets/deeplesion_7x2mm_boxes.py",
    "../_base_/schedules/schedule_20e_detr.py",
    "../_base_/default_runtime.py",
]
