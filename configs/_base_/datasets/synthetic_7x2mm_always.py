_base_ = "./synthetic_7x2mm.py"

load_slices = dict(type="LoadCTSlices", num_slices=7, slice_interval=2.0, interpolate="always")
train_pipeline = [load_slices, *_base_.train_pipeline[1:]]
test_pipeline = [load_slices, *_base_.test_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
