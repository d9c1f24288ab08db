_base_ = [
    "../_base_/models/mask-rcnn_densenet121.py",
    "../_base_/datasets/deeplesion_3x2mm.py",
    "../_base_/schedules/schedule_20e.py",
    "../_base_/default_runtime.py",
]
