"""Small 2D networks with what networks are made of."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

DEPTH = 3
SIZE = 16


class Outputs(NamedTuple):
    """A named tuple, as GoogLeNet returns."""

    logits: Tensor
    aux: Tensor


class EveryLayer(nn.Module):
    """Layers that act in the plane, and 4-D functional calls in its own forward."""

    def __init__(self, weight_norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        parametrized = parametrizations.weight_norm if weight_norm else nn.Sequential
        self.layers = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ReflectionPad2d(1),
            nn.Conv2d(16, 16, 3, groups=2),
            nn.GroupNorm(4, 16),
            nn.ZeroPad2d((1, 0, 0, 1)),
            parametrized(nn.Conv2d(16, 16, 2)),
            nn.InstanceNorm2d(16, affine=True),
            nn.MaxPool2d(2),
            nn.LPPool2d(2, 2, stride=1),
            nn.ConvTranspose2d(16, 16, 2, stride=2),
            nn.AvgPool2d(2, stride=1),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.AdaptiveMaxPool2d(8),
            nn.Dropout2d(),
            nn.PixelShuffle(2),
            nn.Conv2d(4, 16, 1),
        )
        self.normed = nn.LayerNorm(16)
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        x = self.layers(self.stem(images))
        x = self.normed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=0.5)
        pooled = F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)
        batch, channels, _, _ = x.shape
        spread = x.flatten(2).std(dim=2).reshape(batch, channels)
        return self.head(torch.cat([pooled + x.mean((2, 3)), spread], dim=1))


class NestedOutputs(nn.Module):
    """Every structure of outputs that networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, object]:
        """A map, logits, tokens, an ordered dict, a named tuple, a scalar and no tensor."""
        x = self.mix(self.conv(images))
        return {
            "maps": [x, F.max_pool2d(x, 2)],
            "tokens": (x.flatten(2).transpose(1, 2),),
            "ordered": OrderedDict(out=x.mean((2, 3))),
            "named": Outputs(x, x.amax((1, 2, 3))),
            "loss": x.square().mean(),
            "none": None,
        }


class Checkpointed(nn.Module):
    """Computes its activations again in backward."""

    reentrant: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Maps; ``reentrant=None`` keeps activations."""
        x = self.stem(images)
        if self.reentrant is None:
            return self.body(x)
        return checkpoint(self.body, x, use_reentrant=self.reentrant)


def rgb_slices(volume: Tensor) -> Tensor:
    """The RGB copies of the slices of a volume (N, 1, D, H, W), as one batch (N * D, 3, H, W)."""
    return volume.transpose(1, 2).flatten(0, 1).expand(-1, 3, -1, -1)


def volume(batch: int = 2, depth: int = DEPTH, seed: int = 0) -> Tensor:
    """A seeded grey volume (N, 1, D, 16, 16)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, depth, SIZE, SIZE, generator=generator)
