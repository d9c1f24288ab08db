_base_ = [
    "../_base_/models/mask-rcnn_densenet121.py",
    "../_base_/datasets/deeplesion_3x2mm_always.py",
    "../_base_/schedules/schedule_20e.py",
    "../_base_/default_runtime.py",
]

model = dict(backbone=dict(type="DenseNetCustomTrunc3dA3D", num_slices=3))
