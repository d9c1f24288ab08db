# The schedule of AlignShift and A3D: 20 epochs, 4 GPUs of 2 images.
train_cfg = dict(type="ResumableEpochLoop", max_epochs=20, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=20, milestones=[9, 16], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=8)
