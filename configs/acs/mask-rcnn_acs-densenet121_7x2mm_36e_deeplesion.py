_base_ = [
    "../_base_/models/mask-rcnn_densenet121.py",
    "../_base_/datasets/deeplesion_7x2mm_always_multiscale.py",
    "../_base_/schedules/schedule_36e.py",
]

model = dict(backbone=dict(type="DenseNetTrunc3d", operator="ACSConv"), neck=dict(num_slices=7))
