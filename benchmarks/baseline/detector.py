"""The backbone and neck of the papers' detector, written the textbook way; heads are mmdetection's.

They take the place of ours in a stock detector, under the same names of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baseline.densenet import TextbookDenseNet

CHANNELS = (256, 512, 1024)


class TextbookBackbone(TextbookDenseNet):
    """The DenseNet behind a data preprocessor."""

    def forward(self, inputs: Any) -> list[Tensor]:  # type: ignore[override]
        """Maps of a batch with ``volume`` and ``thickness``."""
        return super().forward(inputs.volume, inputs.thickness)


class TextbookNeck(nn.Module):
    """A (D, 1, 1) ``conv3d`` per level, 1 x 1 laterals, sums from the top down.

    Args:
        num_slices: Slices D.
        out_channels: Channels of the one map.
    """

    def __init__(self, num_slices: int, out_channels: int = 512) -> None:
        super().__init__()
        self.collapse = nn.Module()
        self.collapse.reductions = nn.ModuleList(
            nn.Conv3d(c, c, (num_slices, 1, 1), bias=False) for c in CHANNELS
        )
        self.laterals = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in CHANNELS)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """One map at stride 4 from those (N, C, D, H, W) of the backbone."""
        reductions = self.collapse.get_submodule("reductions")
        assert isinstance(reductions, nn.ModuleList)
        levels = [
            lateral(reduction(level).squeeze(2))
            for level, reduction, lateral in zip(maps, reductions, self.laterals, strict=True)
        ]
        top = levels.pop()
        while levels:
            finer = levels.pop()
            top = finer + F.interpolate(top, size=finer.shape[-2:], mode="nearest")
        return (top,)
