"""What we build on of those packages of mmdetection that talk when they are imported."""

from __future__ import annotations

from deeplesion._import_noise import quiet_imports

with quiet_imports():
    from mmdet.datasets import BaseDetDataset
    from mmdet.datasets.transforms import LoadAnnotations, Pad, RandomFlip, Resize

__all__ = ["BaseDetDataset", "LoadAnnotations", "Pad", "RandomFlip", "Resize"]
