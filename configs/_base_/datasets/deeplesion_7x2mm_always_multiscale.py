# Trained at five sizes, all key slices of a step with boxes and masks at one; tested at 512 px.
_base_ = "./deeplesion_7x2mm_always.py"

sizes = [(size, size) for size in (384, 448, 512, 576, 640)]
resize = dict(type="RandomStepResize", scales=sizes, resize_type="ResizeCT", keep_ratio=True)
train_pipeline = [*_base_.train_pipeline[:4], resize, *_base_.train_pipeline[5:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
