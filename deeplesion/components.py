"""Every component that mmdetection's registries know by name: the imports are the registrations.

Who asks a registry for one need not import this: see :mod:`deeplesion.registration`.
"""

from __future__ import annotations

from deeplesion._import_noise import quiet_imports

with quiet_imports():
    import mmdet.evaluation  # noqa: F401  (the Runner imports it later, and noisily)

    from deeplesion import visualization  # noqa: F401
    from deeplesion.datasets import deeplesion, samplers  # noqa: F401
    from deeplesion.engine import (  # noqa: F401
        batch_losses,
        checkpoint_hook,
        distributed,
        flip_views,
        guard,
        loops,
        optim_wrapper,
        overlays,
        progress,
        summary,
        tracking,
        training_log,
        weight_average,
    )
    from deeplesion.evaluation import froc_metric  # noqa: F401
    from deeplesion.models import (  # noqa: F401
        assigners,
        backbones,
        data_preprocessor,
        joint_losses,
        losses,
        necks,
        sampling,
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
    from deeplesion.transforms import geometric, intensity, loading, resizing, seeding  # noqa: F401
