# For detectors without proposals, as in mmdetection: half the learning rate.
_base_ = "./schedule_20e.py"

optim_wrapper = dict(optimizer=dict(lr=0.01))
