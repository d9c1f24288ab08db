"""The truncated DenseNet-121 of AlignShift and A3D, with any operator in its dense layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alignshift.operators import SliceConv, fold_slices, get_operator, unfold_slices
from alignshift.operators.checks import check_volume

from .dense_head import DenseHead

__all__ = ["TruncatedDenseNet3d"]

KERNEL_NDIM = 4


class TruncatedDenseNet3d(nn.Module):
    """DenseNet (Huang et al., arXiv 1608.06993) over slices, without its last dense block.

    The 7x7 stem and the transitions work on each slice alone; both convolutions of every dense
    layer mix slices first (arXiv 2005.01969, section 2.3). Parameters bear the names of
    ``torchvision.models.densenet121().features``. Between convolutions the slices are folded into
    the batch in channels_last, so that batch norms and pools too run with their fast 2D kernels.

    Args:
        operator: Operator of the dense layers: a name in `alignshift.operators.OPERATORS`, a class,
            or ``None`` for plain slice-wise convolutions.
        operator_kwargs: Further arguments of the operator, e.g. ``{"ref_thickness": 2.0}``.
        in_channels: Channels of the input; D for a 2D network that takes D slices as channels.
        growth_rate: Channels that each dense layer adds.
        block_config: Number of layers of each dense block.
        num_init_features: Channels of the stem.
        bn_size: Bottleneck width in units of ``growth_rate``.
        memory_efficient: Compute the dense layers again in backward rather than keep what is inside
            them (ignored under `torch.compile`, which decides that by itself).
        drop_rate: Dropout probability after each dense layer.
        num_classes: Number of classes K of a `DenseHead` with the same operator, whose logits
            `forward` then returns; ``None`` for the maps.

    Attributes:
        out_channels: Channels of each map.

    Raises:
        ValueError: If the operator's name is not known or ``num_classes`` is less than 1.
    """

    def __init__(
        self,
        operator: str | type[SliceConv] | None = "AlignShiftConv",
        operator_kwargs: dict[str, Any] | None = None,
        in_channels: int = 1,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24),
        num_init_features: int = 64,
        bn_size: int = 4,
        memory_efficient: bool = False,
        drop_rate: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        conv = _operator_class(operator)
        settings = (growth_rate, bn_size, memory_efficient, drop_rate, conv, operator_kwargs or {})
        self.conv0 = SliceConv(in_channels, num_init_features, 7, stride=2, padding=3, bias=False)
        self.norm0 = nn.BatchNorm2d(num_init_features)
        self.num_blocks = len(block_config)
        channels, out_channels = num_init_features, []
        for i, num_layers in enumerate(block_config, start=1):
            if i > 1:
                self.add_module(f"transition{i - 1}", _Transition(channels, channels // 2))
                channels //= 2
            self.add_module(f"denseblock{i}", _DenseBlock(num_layers, channels, *settings))
            channels += num_layers * growth_rate
            out_channels.append(channels)
        self.out_channels = tuple(out_channels)
        self._init_parameters()
        self.head: DenseHead | None = None
        if num_classes is not None:
            self.head = DenseHead(self.out_channels, num_classes, conv, operator_kwargs)

    def _init_parameters(self) -> None:
        for module in self.modules():
            # A kernel with a depth stays as its operator inflated it: noise would undo that.
            if isinstance(module, nn.Conv2d) and module.weight.ndim == KERNEL_NDIM:
                nn.init.kaiming_normal_(module.weight)

    def forward(self, volume: Tensor, thickness: Tensor | None = None) -> Tensor | list[Tensor]:
        """Compute the logits of every voxel or, without ``num_classes``, the maps.

        Args:
            volume: Shape (N, in_channels, D, H, W), slices from top to bottom.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Returns:
            Logits (N, K, D, H, W), or the maps of `forward_features`.

        Raises:
            ValueError: If the shape of ``volume`` or ``thickness`` does not fit.
        """
        maps = self.forward_features(volume, thickness)
        if self.head is None:
            return maps
        logits: Tensor = self.head(maps, volume.shape[-2:], thickness)
        return logits

    def forward_features(self, volume: Tensor, thickness: Tensor | None = None) -> list[Tensor]:
        """Compute the maps after each dense block.

        Args:
            volume: Shape (N, in_channels, D, H, W), slices from top to bottom.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Returns:
            Maps (N, C, D, H / s, W / s) in channels_last_3d, at strides s = 4, 8, 16 (one map for
            each dense block, the stride doubling).

        Raises:
            ValueError: If the shape of ``volume`` or ``thickness`` does not fit.
        """
        return self.forward_blocks(self.forward_stem(volume), thickness)

    def forward_stem(self, volume: Tensor) -> Tensor:
        """Compute what of the network works on each slice alone, before the first dense block.

        Stacks that share slices may share it: it can be computed once for each slice.

        Args:
            volume: Shape (N, in_channels, D, H, W).

        Returns:
            Shape (N, C, D, H / 4, W / 4) in channels_last_3d.

        Raises:
            ValueError: If the shape of ``volume`` does not fit.
        """
        check_volume(volume, self.conv0.in_channels)
        x = fold_slices(self.conv0(volume))
        x = F.relu(self.norm0(x), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        return unfold_slices(x, volume.shape[2])

    def forward_blocks(self, stem: Tensor, thickness: Tensor | None = None) -> list[Tensor]:
        """Compute the maps of `forward_features` from the result of `forward_stem`.

        Args:
            stem: Shape (N, C, D, H / 4, W / 4), fastest in channels_last_3d.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Raises:
            ValueError: If the shape of ``stem`` or ``thickness`` does not fit.
        """
        check_volume(stem, self.norm0.num_features)
        depth, x, maps = stem.shape[2], fold_slices(stem), []
        for i in range(1, self.num_blocks + 1):
            if i > 1:
                x = self.get_submodule(f"transition{i - 1}")(x)
            x = self.get_submodule(f"denseblock{i}")(x, depth, thickness)
            maps.append(unfold_slices(x, depth))
        return maps


def _operator_class(operator: str | type[SliceConv] | None) -> type[SliceConv]:
    if operator is None:
        return SliceConv
    return get_operator(operator) if isinstance(operator, str) else operator


class _DenseLayer(nn.Module):
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


class _DenseBlock(nn.Module):
    """Dense layers, each fed with the features of all before it."""

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int, *args: Any) -> None:
        super().__init__()
        for i in range(num_layers):
            layer = _DenseLayer(in_channels + i * growth_rate, growth_rate, *args)
            self.add_module(f"denselayer{i + 1}", layer)

    def forward(self, x: Tensor, depth: int, thickness: Tensor | None) -> Tensor:
        """All features of the block, folded: (N * D, C, H, W)."""
        features = [x]
        for layer in self.children():
            features.append(layer(features, depth, thickness))
        return torch.cat(features, dim=1)


class _Transition(nn.Module):
    """Pointwise convolution and in-plane pooling of each slice between two dense blocks."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve channels, height and width of folded slices."""
        x = F.relu(self.norm(x), inplace=True)
        # Averaging commutes with a pointwise convolution, which has a quarter of the work after it.
        out: Tensor = self.conv(F.avg_pool2d(x, kernel_size=2, stride=2))
        return out


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
