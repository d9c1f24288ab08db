# For detectors with transformers: AdamW, and a backbone that learns more slowly.
_base_ = "./schedule_20e.py"

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
    # A3D's mixing weights are not pretrained.
    paramwise_cfg=dict(
        custom_keys=dict(backbone=dict(lr_mult=0.1), adaptive_align_weights=dict(lr_mult=1.0))
    ),
)
