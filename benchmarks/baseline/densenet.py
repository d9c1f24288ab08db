"""The truncated DenseNet-121 of AlignShift, written the textbook way.

Every layer is the 3D layer of its name on contiguous volumes: ``conv3d`` with 1 x k x k kernels,
BatchNorm3d, pooling with 1 x k x k windows, and slices mixed by slice assignments into a fresh
tensor. Each dense layer concatenates all features before it. It shares no code with the library.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baseline.resnet import AlignShiftConv3d, PlainConv3d

GROWTH, BN_SIZE, STEM = 32, 4, 64
BLOCKS = (6, 12, 24)


def _norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    return F.relu(norm(x), inplace=True)


class DenseLayer(nn.Module):
    """Batch norm, ReLU and convolution, twice, on the concatenated features before it."""

    def __init__(self, channels: int, conv: type[PlainConv3d]) -> None:
        super().__init__()
        width = BN_SIZE * GROWTH
        self.norm1 = nn.BatchNorm3d(channels)
        self.conv1 = conv(nn.Conv2d(channels, width, 1, bias=False))
        self.norm2 = nn.BatchNorm3d(width)
        self.conv2 = conv(nn.Conv2d(width, GROWTH, 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Append the new features to ``x`` (N, C, D, H, W)."""
        new: Tensor = self.conv1(_norm_relu(self.norm1, x))
        new = self.conv2(_norm_relu(self.norm2, new))
        return torch.cat([x, new], dim=1)


class Transition(nn.Module):
    """Batch norm, ReLU, pointwise convolution and in-plane pooling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(channels)
        self.conv = PlainConv3d(nn.Conv2d(channels, channels // 2, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Halve channels, height and width of ``x`` (N, C, D, H, W)."""
        x = self.conv(_norm_relu(self.norm, x))
        return F.avg_pool3d(x, (1, 2, 2), (1, 2, 2))


class TextbookDenseNet(nn.Module):
    """Three dense blocks over slices; names of parameters are those of torchvision.

    Args:
        mixing: Whether dense layers mix slices (AlignShift) or work on each slice alone.
    """

    def __init__(self, mixing: bool = True) -> None:
        super().__init__()
        conv = AlignShiftConv3d if mixing else PlainConv3d
        self.conv0 = PlainConv3d(nn.Conv2d(1, STEM, 7, stride=2, padding=3, bias=False))
        self.norm0 = nn.BatchNorm3d(STEM)
        channels = STEM
        for index, layers in enumerate(BLOCKS, start=1):
            if index > 1:
                self.add_module(f"transition{index - 1}", Transition(channels))
                channels //= 2
            block = nn.Sequential()
            for number in range(1, layers + 1):
                block.add_module(f"denselayer{number}", DenseLayer(channels, conv))
                channels += GROWTH
            self.add_module(f"denseblock{index}", block)

    def forward(self, volume: Tensor, thickness: Tensor) -> list[Tensor]:
        """Maps (N, C, D, H / s, W / s) at strides 4, 8, 16.

        Args:
            volume: Shape (N, 1, D, H, W).
            thickness: In mm, shape (N,).
        """
        for layer in self.modules():
            if isinstance(layer, PlainConv3d):
                layer.thickness = thickness
        x = _norm_relu(self.norm0, self.conv0(volume))
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        maps = []
        for index in range(1, len(BLOCKS) + 1):
            if index > 1:
                x = self.get_submodule(f"transition{index - 1}")(x)
            x = self.get_submodule(f"denseblock{index}")(x)
            maps.append(x)
        return maps
