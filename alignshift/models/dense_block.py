"""Dense blocks over slices folded into the batch, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alignshift.operators import SliceConv, fold_slices, unfold_slices

from .fused_block import can_fuse, fused_block, has_hooks, is_recorded

__all__ = ["DenseBlock", "DenseLayer", "Transition", "by_image"]


class DenseLayer(nn.Module):
    """Bottleneck of two convolutions, each after a batch norm, a ReLU and a mix of slices."""

    def __init__(
        self,
        in_channels: int,
        growth_rate: int,
        bn_size: int,
        memory_efficient: bool,
        drop_rate: float,
        conv: type[SliceConv],
        operator_kwargs: dict[str, Any],
    ) -> None:
        super().__init__()
        width = bn_size * growth_rate
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, width, 1, bias=False, **operator_kwargs)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, growth_rate, 3, padding=1, bias=False, **operator_kwargs)
        self.memory_efficient = memory_efficient
        self.drop_rate = drop_rate

    def forward(self, features: list[Tensor], depth: int, thickness: Tensor | None) -> Tensor:
        """New features (N * D, growth_rate, H, W) from all those before."""
        recompute = self.memory_efficient and torch.is_grad_enabled()
        if not recompute or torch.compiler.is_compiling():
            return self._compute(depth, thickness, *features)
        out: Tensor = checkpoint(
            self._compute,
            depth,
            thickness,
            *features,
            use_reentrant=False,
            preserve_rng_state=self.drop_rate > 0,
            context_fn=lambda: (nullcontext(), _frozen_statistics(self.norm1, self.norm2)),
        )
        return out

    def _compute(self, depth: int, thickness: Tensor | None, *features: Tensor) -> Tensor:
        x = torch.cat(features, dim=1)
        for norm, conv in ((self.norm1, self.conv1), (self.norm2, self.conv2)):
            # In place: a batch norm needs its input for backward, not its output.
            x = F.relu(norm(x), inplace=True)
            x = fold_slices(conv(unfold_slices(x, depth), thickness))
        return F.dropout(x, self.drop_rate, self.training) if self.drop_rate else x


class DenseBlock(nn.Module):
    """Dense layers, each fed with the features of all before it."""

    def __init__(
        self, num_layers: int, in_channels: int, fused: bool, growth_rate: int, *args: Any
    ) -> None:
        super().__init__()
        self.fused = fused
        for i in range(num_layers):
            layer = DenseLayer(in_channels + i * growth_rate, growth_rate, *args)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor, depth: int, thickness: Tensor | None) -> Tensor:
        """All features of the block, folded: (N * D, C, H, W)."""
        layers = cast(list[DenseLayer], list(self.children()))
        if self.fused and can_fuse(layers, x):
            return fused_block(x, layers, depth, thickness)
        features = [x]
        for layer in layers:
            features.append(layer(features, depth, thickness))
        return torch.cat(features, dim=1)


class Transition(nn.Module):
    """Pointwise convolution and in-plane pooling of each slice between two dense blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve channels, height and width of folded slices."""
        return by_image(self._halve, x, self.norm, self.conv)

    def _halve(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(x), inplace=True)
        # Averaging commutes with a pointwise convolution, which has a quarter of the work after it.
        out: Tensor = self.conv(F.avg_pool2d(x, kernel_size=2, stride=2))
        return out


def by_image(
    function: Callable[[Tensor], Tensor], images: Tensor, norm: nn.Module, conv: nn.Module
) -> Tensor:
    """Call a function with one image at a time where that is faster: on a CPU in inference.

    Taking memory from the system, again for each tensor, costs more time there than filling it;
    what one image needs stays small enough to be used again.

    Args:
        function: From (S, C, H, W) to (S, C', H', W'), to each image what it does to all.
        images: Shape (S, C, H, W).
        norm: The batch norm in it, which may take statistics of all images.
        conv: The convolution in it.
    """
    batch = norm.training or getattr(norm, "running_mean", None) is None
    noticed = batch or has_hooks(norm) or has_hooks(conv)
    if noticed or torch.is_grad_enabled() or is_recorded() or not images.is_cpu or len(images) < 2:
        return function(images)
    return torch.cat([function(image) for image in torch.split(images, 1)])


@contextmanager
def _frozen_statistics(*norms: nn.BatchNorm2d) -> Iterator[None]:
    """Keep a second pass over the same batch from entering the running statistics again."""
    states = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(norms, states, strict=True):
            norm.momentum, norm.num_batches_tracked = state
