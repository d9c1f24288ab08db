# What tools/make_synthetic.py writes, at its own 128 px.
_base_ = "./deeplesion_3x2mm.py"

data_root = "{{$DEEPLESION_ROOT:data/synthetic}}"
load_slices = dict(type="LoadCTSlices", num_slices=7, slice_interval=2.0)
train_pipeline = [
    load_slices,
    dict(type="LoadLesionAnnotations", with_bbox=True, with_mask=True),
    dict(type="WindowCT", window=(-175, 275)),
    dict(type="RandomCTAffine", shift_limit=0.04, scale_limit=0.2, rotate_limit=15, prob=0.8),
    dict(type="RandomCTFlip", prob=0.5),
    dict(type="PackDetInputs", meta_keys=_base_.meta_keys),
    dict(type="SeedSampling"),
]
test_pipeline = [
    load_slices,
    dict(type="WindowCT", window=(-175, 275)),
    dict(type="PackDetInputs", meta_keys=_base_.meta_keys),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="CTSampler", shuffle=True, infinite=True),
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = dict(
    batch_size=8, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
