_base_ = [
    "../_base_/models/mask-rcnn_densenet-small.py",
    "../_base_/datasets/synthetic_7x2mm_always.py",
    "../_base_/schedules/schedule_500it.py",
]

model = dict(backbone=dict(type="DenseNetCustomTrunc3dTSM"))
