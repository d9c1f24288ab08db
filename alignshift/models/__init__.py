"""Native 3D-context models."""

from __future__ import annotations

from .dense_head import DenseHead
from .densenet import TruncatedDenseNet3d
from .faces import DenseNetCustomTrunc3dA3D, DenseNetCustomTrunc3dAlign, DenseNetCustomTrunc3dTSM

__all__ = [
    "DenseHead",
    "DenseNetCustomTrunc3dA3D",
    "DenseNetCustomTrunc3dAlign",
    "DenseNetCustomTrunc3dTSM",
    "TruncatedDenseNet3d",
]
