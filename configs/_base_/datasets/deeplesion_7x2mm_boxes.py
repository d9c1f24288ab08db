# For detectors without masks, which then need not be made.
_base_ = "./deeplesion_7x2mm.py"

train_pipeline = [
    _base_.load_slices,
    dict(type="LoadLesionAnnotations", with_bbox=True),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(mask_file=None, pipeline=train_pipeline))
