# Can it learn at all? Over-fits a handful of real key slices at 256 px, evaluated on the same ones.
_base_ = "./mask-rcnn_alignshift-densenet121_3x2mm_20e_deeplesion.py"

load, annotations, window = _base_.train_pipeline[:3]
resize, pack = dict(type="Resize", scale=(256, 256), keep_ratio=True), _base_.train_pipeline[-1]
test_pipeline = [load, window, resize, pack]
train_dataloader = dict(
    dataset=dict(split="val", pipeline=[load, annotations, window, resize, pack])
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(split="val", pipeline=test_pipeline))

model = dict(
    backbone=dict(init_cfg=None),
    rpn_head=dict(anchor_generator=dict(scales=[2, 3, 4, 6, 8, 12, 24])),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type="AdamW", lr=2e-4, weight_decay=1e-4))
train_cfg = dict(max_epochs=16, val_interval=16)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=16, milestones=[12], gamma=0.1),
]
