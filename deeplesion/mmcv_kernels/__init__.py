"""The functions of mmcv's compiled extension ``mmcv._ext``, computed by torch and torchvision.

A function here has the name and the parameters of one of ``mmcv._ext`` and keeps its contract:
results are written into the tensors handed over (``output``, ``grad_*``), which the Python side of
mmcv allocates. They run where their inputs are, on CPU or CUDA. ``deeplesion.mmcv_ops.install``
puts them in place.
"""
