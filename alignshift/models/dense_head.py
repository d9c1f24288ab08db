"""Class logits of every voxel from the maps of a trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from alignshift.operators import SliceConv, fold_slices, unfold_slices

__all__ = ["DenseHead"]

HEAD_CHANNELS = 128


class DenseHead(nn.Module):
    """Feature pyramid (Lin et al., arXiv 1612.03144) down to the finest map, and a classifier.

    1x1 laterals, nearest-neighbor top-down sums, a 3x3 convolution that mixes slices, batch norm,
    ReLU, a 1x1 classifier, and bilinear in-plane upsampling to the size that is asked for.

    Args:
        in_channels: Channels of each map, finest first.
        num_classes: Number of classes K.
        operator: Operator of the 3x3 convolution; `SliceConv` mixes no slices.
        operator_kwargs: Further arguments of the operator.
        channels: Channels after the laterals.

    Raises:
        ValueError: If ``num_classes`` is less than 1.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        operator: type[SliceConv] = SliceConv,
        operator_kwargs: dict[str, Any] | None = None,
        channels: int = HEAD_CHANNELS,
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.laterals = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        settings = operator_kwargs or {}
        self.conv = operator(channels, channels, 3, padding=1, bias=False, **settings)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(
        self, maps: Sequence[Tensor], size: Sequence[int], thickness: Tensor | None = None
    ) -> Tensor:
        """Classify every voxel.

        Args:
            maps: One (N, C, D, H, W) per level, finest first, fastest in channels_last_3d.
            size: Height and width of the result.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Returns:
            Logits of shape (N, K, D, *size).

        Raises:
            ValueError: If the number of maps or the shape of ``thickness`` does not fit.
        """
        depth = maps[0].shape[2]
        pairs = zip(self.laterals, maps, strict=True)
        levels = [lateral(fold_slices(level)) for lateral, level in pairs]
        x = levels.pop()
        while levels:
            finer = levels.pop()
            x = finer + F.interpolate(x, size=finer.shape[-2:], mode="nearest")
        x = fold_slices(self.conv(unfold_slices(x, depth), thickness))
        x = self.classifier(F.relu(self.norm(x), inplace=True))
        x = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
        return unfold_slices(x, depth)
