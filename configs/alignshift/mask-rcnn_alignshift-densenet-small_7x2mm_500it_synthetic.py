_base_ = [
    "../_base_/models/mask-rcnn_densenet-small.py",
    "../_base_/datasets/synthetic_7x2mm.py",
    "../_base_/schedules/schedule_500it.py",
]
