"""Samplers whose every draw follows from the run's seed and the position in training."""

from __future__ import annotations

from deeplesion.datasets.samplers.base import CTSampler, Draw
from deeplesion.datasets.samplers.thickness_batches import ThicknessBatchSampler
from deeplesion.datasets.samplers.weighted import ClassBalancedSampler, RepeatFactorSampler

__all__ = [
    "CTSampler",
    "ClassBalancedSampler",
    "Draw",
    "RepeatFactorSampler",
    "ThicknessBatchSampler",
]
