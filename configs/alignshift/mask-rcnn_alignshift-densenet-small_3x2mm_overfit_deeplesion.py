# Can it learn real slices at all? Over-fits the validation part of a few, at 256 px.
_base_ = [
    "../_base_/models/mask-rcnn_densenet-small.py",
    "../_base_/datasets/deeplesion_3x2mm.py",
    "../_base_/schedules/schedule_500it.py",
]

load, annotations, window = _base_.train_pipeline[:3]
resize = dict(type="ResizeCT", scale=(256, 256), keep_ratio=True)
pack, seed = _base_.train_pipeline[-2:]
test_pipeline = [load, window, resize, pack]
train_dataloader = dict(
    batch_size=7,
    num_workers=1,
    sampler=dict(type="CTSampler", infinite=True),
    dataset=dict(split="val", pipeline=[load, annotations, window, resize, pack, seed]),
)
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=1, dataset=dict(split="val", pipeline=test_pipeline))
model = dict(
    neck=dict(num_slices=3),
    rpn_head=dict(anchor_generator=dict(scales=[2, 3, 4, 6, 8, 12, 16], ratios=[0.5, 1.0, 2.0])),
)
