"""Registers every component with mmdetection: the imports are the registrations."""

from __future__ import annotations

from deeplesion import mmcv_ops
from deeplesion._import_noise import quiet_imports

# mmcv.ops must be served before anything of mmdet is imported.
mmcv_ops.install()

with quiet_imports():
    import mmdet.evaluation  # noqa: F401  (the Runner imports it later, and noisily)

    from deeplesion import visualization  # noqa: F401
    from deeplesion.datasets import deeplesion  # noqa: F401
    from deeplesion.engine import flip_views, optim_wrapper, weight_average  # noqa: F401
    from deeplesion.evaluation import froc_metric  # noqa: F401
    from deeplesion.models import (  # noqa: F401
        backbones,
        data_preprocessor,
        losses,
        necks,
        slice_backbone,
        timm_backbone,
    )
    from deeplesion.models.legacy import (  # noqa: F401
        box_coder,
        overlaps,
        roi_align,
        roi_head,
        rpn_head,
    )
    from deeplesion.transforms import geometric, intensity, loading, resizing  # noqa: F401
