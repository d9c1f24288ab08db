"""From maps with a slice axis to the 2D maps that detectors expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn


def collapse_slices(x: Tensor, weight: Tensor) -> Tensor:
    """The ``(D, 1, 1)`` convolution as a sum of D matrix products, one a slice.

    In channels_last_3d every slice is a matrix ``(H * W, C)`` as it lies in memory: nothing is
    copied, and matrix products are several times faster than 3D kernels.

    Args:
        x: ``(N, C, D, H, W)``, fastest in channels_last_3d.
        weight: ``(C_out, C, D, 1, 1)``.

    Returns:
        ``(N, C_out, H, W)`` in channels_last.
    """
    size = x.shape[-2:]
    slices = x.permute(0, 2, 3, 4, 1).flatten(2, 3).unbind(1)
    kernels = weight.flatten(2).permute(2, 1, 0).unsqueeze(1).expand(-1, len(x), -1, -1)
    collapsed = torch.bmm(slices[0], kernels[0])
    for pixels, kernel in zip(slices[1:], kernels[1:], strict=True):
        collapsed = torch.baddbmm(collapsed, pixels, kernel)
    return collapsed.unflatten(1, size).permute(0, 3, 1, 2)


class SliceReduction(nn.Conv3d):
    """A ``(D, 1, 1)`` convolution over stacks of exactly D slices."""

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, D, H, W)`` to ``(N, C_out, H, W)``, see :func:`collapse_slices`."""
        return collapse_slices(x, self.weight)


@MODELS.register_module()
class SliceCollapse(BaseModule):
    """Collapse the slices of every level by a learned ``(D, 1, 1)`` convolution without bias.

    Put it before FPN or any other 2D neck: ``neck=[dict(type='SliceCollapse', ...),
    dict(type='FPN', ...)]``. A stack of one slice has nothing to collapse and passes without
    parameters.

    Args:
        in_channels: Channels C of each level of the backbone, finest first.
        num_slices: Slices D of the stack.
        start_level: Finer levels are dropped. Use this instead of an FPN's own ``start_level``,
            which would leave parameters here without a gradient.
        init_cfg: As in every mmdetection neck.

    Raises:
        ValueError: ``num_slices`` is below 1 or there is no level ``start_level``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_slices: int,
        start_level: int = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_slices < 1:
            raise ValueError(f"num_slices must be >= 1, got {num_slices}")
        if not 0 <= start_level < len(in_channels):
            raise ValueError(
                f"start_level must be one of the {len(in_channels)} levels, got {start_level}"
            )
        self.num_slices = num_slices
        self.start_level = start_level
        channels = in_channels[start_level:] if num_slices > 1 else ()
        self.reductions = nn.ModuleList(
            SliceReduction(c, c, (num_slices, 1, 1), bias=False) for c in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Collapse.

        Args:
            maps: One ``(N, C, D, H, W)`` per level.

        Returns:
            One ``(N, C, H, W)`` per level from ``start_level`` on.

        Raises:
            ValueError: The stack does not have ``num_slices`` slices.
        """
        maps = maps[self.start_level :]
        if maps[0].shape[2] != self.num_slices:
            raise ValueError(
                f"maps must have {self.num_slices} slices (num_slices of the neck), "
                f"got {maps[0].shape[2]}: set the same num_slices in LoadCTSlices"
            )
        if self.num_slices == 1:
            return tuple(level.squeeze(2) for level in maps)
        return tuple(
            reduction(level) for level, reduction in zip(maps, self.reductions, strict=True)
        )


@MODELS.register_module()
class SliceCollapseFPN(BaseModule):
    """The neck of AlignShift and A3D: collapse, 1x1 laterals, top-down sums, one map at stride 4.

    Nearest-neighbor upsampling, laterals with bias, no convolution after the sums (arXiv
    2005.01969).

    Args:
        in_channels: Channels of the levels, finest first.
        out_channels: Channels of the one map.
        num_slices: Slices D of the stack; 1 where the backbone has none (2.5D).
        init_cfg: As in every mmdetection neck.
    """

    def __init__(
        self,
        in_channels: Sequence[int] = (256, 512, 1024),
        out_channels: int = 512,
        num_slices: int = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.collapse = SliceCollapse(in_channels, num_slices)
        self.laterals = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """One map.

        Args:
            maps: ``(N, C, D, H, W)`` per level, finest first.

        Returns:
            ``(N, out_channels, H, W)`` at the finest stride, in a tuple.
        """
        levels = [
            lateral(level)
            for lateral, level in zip(self.laterals, self.collapse(maps), strict=True)
        ]
        top = levels.pop()
        while levels:
            finer = levels.pop()
            top = finer + F.interpolate(top, size=finer.shape[-2:], mode="nearest")
        return (top,)
