# `data_root` is the one line to change; or set DEEPLESION_ROOT, or give --data-root.
data_root = "{{$DEEPLESION_ROOT:data/deeplesion}}"

meta_keys = (
    "img_id",
    "img_path",
    "file_name",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
    "thickness",
    "slice_interval",
    "spacing",
    "window",
    "series",
    "key_slice",
    "patient_id",
    "instances",
)
train_pipeline = [
    dict(type="LoadCTSlices", num_slices=3, slice_interval=2.0),
    dict(type="LoadLesionAnnotations", with_bbox=True, with_mask=True),
    dict(type="WindowCT", window=(-1024, 2050)),
    dict(type="RandomCTAffine", shift_limit=0.04, scale_limit=0.2, rotate_limit=15, prob=0.8),
    dict(type="ResizeCT", scale=(512, 512), keep_ratio=True),
    dict(type="RandomCTFlip", prob=0.5),
    dict(type="PackDetInputs", meta_keys=meta_keys),
    dict(type="SeedSampling"),
]
test_pipeline = [
    dict(type="LoadCTSlices", num_slices=3, slice_interval=2.0),
    dict(type="WindowCT", window=(-1024, 2050)),
    dict(type="ResizeCT", scale=(512, 512), keep_ratio=True),
    dict(type="PackDetInputs", meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="CTSampler", shuffle=True),
    dataset=dict(
        type="DeepLesionDataset",
        data_root=data_root,
        split="train",
        mask_file="masks_{split}.json",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="CTSampler", shuffle=False),
    dataset=dict(
        type="DeepLesionDataset",
        data_root=data_root,
        split="val",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader["dataset"], split="test"))

val_evaluator = dict(type="FROCMetric")
test_evaluator = dict(type="FROCMetric")
