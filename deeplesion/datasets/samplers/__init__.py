"""Samplers whose every draw follows from the run's seed and the position in training."""

from __future__ import annotations

from deeplesion.datasets.samplers.base import CTSampler, Draw

__all__ = ["CTSampler", "Draw"]
