"""The truncated DenseNet-121 of AlignShift and A3D, with any operator in its dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from alignshift.operators import SliceConv, fold_slices, get_operator, unfold_slices
from alignshift.operators.checks import check_volume

from .dense_block import DenseBlock, Transition, by_image
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
        memory_efficient: Keep nothing of what is inside a dense layer for backward, but compute it
            again (ignored under `torch.compile`, which decides that by itself).
        drop_rate: Dropout probability after each dense layer.
        fused: Compute a dense block as one function where that changes nothing, see
            `alignshift.models.fused_block`. Faster, and in less memory, but no gradients of
            gradients can be had of it.
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
        fused: bool = True,
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
                self.add_module(f"transition{i - 1}", Transition(channels, channels // 2))
                channels //= 2
            block = DenseBlock(num_layers, channels, fused, *settings)
            self.add_module(f"denseblock{i}", block)
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
        slices = fold_slices(volume)
        return unfold_slices(by_image(self._stem, slices, self.norm0, self.conv0), volume.shape[2])

    def _stem(self, images: Tensor) -> Tensor:
        x = self.norm0(fold_slices(self.conv0(images.unsqueeze(2))))
        # A ReLU of maxima is the maximum of ReLUs, with a quarter of the work.
        return F.relu(F.max_pool2d(x, kernel_size=3, stride=2, padding=1), inplace=True)

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
