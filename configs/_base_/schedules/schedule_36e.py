# For long runs: AdamW, an epoch of warm-up, cosine, and an average of the weights, which is what is
# evaluated and saved. All of it is as long as train_cfg.max_epochs says; docs/recipes.md says more.
_base_ = "../default_runtime.py"

train_cfg = dict(type="ResumableEpochLoop", max_epochs=36, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="GuardedOptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=35, norm_type=2),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        # A3D's mixing of slices begins as the identity, and would decay to no mixing of anything.
        custom_keys=dict(adaptive_align_weights=dict(decay_mult=0.0)),
    ),
)
# Both begin at once and multiply: a run of one epoch ends before they have got anywhere, and works.
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=0.0, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=8)  # with the square root of the batch size, for AdamW
custom_hooks = [*_base_.custom_hooks, dict(type="WeightAverageHook", gamma=20)]
