"""The work of `fused_block`, forward and back; see there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .stages import NormAtWork, Place, Stage, batch_moments, by_slice, fold
from .sync_norm import is_synchronized, joint_moments, pixels_of_processes

if TYPE_CHECKING:
    from torch.nn import BatchNorm2d

    from alignshift.operators import SliceConv

    from .dense_block import DenseLayer

__all__ = ["BlockPass"]

#: Bytes of a chunk on a CPU: some such fit into its cache.
CHUNK_BYTES = 4 << 20
PARAMETERS_PER_LAYER = 6


class _LayerPass(NamedTuple):
    """A layer, and what happened before its convolutions in forward."""

    layer: DenseLayer
    stage1: Stage
    stage2: Stage


class BlockPass:
    """One pass through a dense block, forward and back.

    Args:
        layers: The layers.
        depth: Slices D of a stack.
        thickness: Slice thickness in mm, shape (N,) or (N, 1), or ``None``.
        x: Features before the block, (N * D, C, H, W).
    """

    def __init__(
        self, layers: Sequence[DenseLayer], depth: int, thickness: Tensor | None, x: Tensor
    ) -> None:
        self.layers, self.depth, self.thickness = layers, depth, thickness
        self.shape = (x.shape[0] // max(depth, 1), depth, *x.shape[2:])
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        norms = (norm for layer in layers for norm in (layer.norm1, layer.norm2))
        self.joint = is_synchronized(norms)
        self.pixels = pixels_of_processes(pixels, x.device) if self.joint else [pixels]
        self.dtype, self.device = x.dtype, x.device
        self.wide = torch.promote_types(x.dtype, torch.float32)
        self.passed: list[_LayerPass] = []
        self.bottlenecks: list[Tensor] = []
        self.memory: dict[str, Tensor] = {}

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        """Compute all features.

        Args:
            x: Features before the block, (N * D, C, H, W).
            keep: Whether backward will follow.

        Returns:
            Shape (N * D, C', H, W) in channels_last.
        """
        growth = [layer.conv2.out_channels for layer in self.layers]
        features = self._volume(x.shape[1] + sum(growth))
        moments = torch.empty(2, features.shape[-1], dtype=self.wide, device=self.device)
        measured = any(layer.norm1.training for layer in self.layers)
        start, new = 0, x
        for layer in self.layers:
            stop = start + new.shape[1]
            features[..., start:stop] = self._unfold(new)
            if measured:
                moments[:, start:stop] = self._moments(new)
            new = self._layer(layer, features[..., :stop], moments[:, :stop], keep)
            start = stop
        features[..., start:] = self._unfold(new)
        self.memory.clear()
        return fold(features)

    def take_bottlenecks(self) -> list[Tensor]:
        """What forward kept of each layer, for autograd to hold instead."""
        taken, self.bottlenecks = self.bottlenecks, []
        return taken

    def _layer(self, layer: DenseLayer, before: Tensor, moments: Tensor, keep: bool) -> Tensor:
        """New features of a layer, folded, from those before it."""
        kept = keep and not layer.memory_efficient
        channels = layer.conv1.out_channels
        mid = self._volume(channels) if kept else self._scratch("mid", channels)
        stage1 = self._stage(layer.norm1, layer.conv1, before, moments)
        self._pointwise(stage1, before, layer.conv1.weight, mid)
        moments = self._moments(fold(mid)) if layer.norm2.training else moments
        stage2 = self._stage(layer.norm2, layer.conv2, mid, moments)
        if keep:
            self.passed.append(_LayerPass(layer, stage1, stage2))
        if kept:
            self.bottlenecks.append(mid)
        mixed = self._scratch("mixed", channels) if kept else mid
        self._activate(stage2, mid, mixed)
        conv, weight = layer.conv2, layer.conv2.weight.to(self.dtype)
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        return F.conv2d(fold(mixed), weight, None, *geometry)  # type: ignore[arg-type]

    def _stage(self, norm: BatchNorm2d, conv: SliceConv, x: Tensor, moments: Tensor) -> Stage:
        shift = conv.fold_shift(x.movedim(-1, 1), self.thickness)
        return Stage(NormAtWork.of(norm, moments, sum(self.pixels), self.joint), shift)

    def _moments(self, images: Tensor) -> Tensor:
        moments = batch_moments(images)
        return joint_moments(moments, self.pixels) if self.joint else moments

    def _pointwise(self, stage: Stage, x: Tensor, weight: Tensor, out: Tensor) -> None:
        """Normalize, rectify, mix and convolve with a 1 x 1 kernel."""
        kernel = weight.flatten(1).t().to(self.dtype)
        for place in self._chunks(x.shape[-1]):
            source, target = x[place], by_slice(out[place])
            mixed = stage.mix_(stage.rectify(source, self._like("mixed", source)), place)
            torch.bmm(by_slice(mixed), kernel.expand(len(target), -1, -1), out=target)

    def _activate(self, stage: Stage, x: Tensor, out: Tensor) -> None:
        """Normalize, rectify and mix; ``out`` may be ``x`` itself."""
        for place in self._chunks(x.shape[-1]):
            stage.mix_(stage.rectify(x[place], out[place]), place)

    def backward(
        self,
        grad: Tensor,
        features: Tensor,
        parameters: Sequence[Tensor],
        bottlenecks: Sequence[Tensor],
    ) -> list[Tensor]:
        """Gradients by x and by the parameters of the layers.

        Args:
            grad: Gradient by the features, (N * D, C', H, W).
            features: What forward returned.
            parameters: Six of each layer: weight and bias of its first norm, its first kernel, and
                the same of the second.
            bottlenecks: What `take_bottlenecks` returned.
        """
        x = self._unfold(features)
        total = self._volume(x.shape[-1]).copy_(self._unfold(grad))
        # What the statistics of batches add, the same for all pixels, waits until all is summed up.
        moments = torch.zeros(2, x.shape[-1], dtype=self.wide, device=self.device)
        found: list[Tensor] = []
        left, stop = list(bottlenecks), x.shape[-1]
        for index, passed in reversed(list(enumerate(self.passed))):
            start = stop - passed.layer.conv2.out_channels
            grad_new = self._complete(x, total, moments, slice(start, stop))
            mid = None if passed.layer.memory_efficient else left.pop()
            own = parameters[index * PARAMETERS_PER_LAYER : (index + 1) * PARAMETERS_PER_LAYER]
            gradients, added = self._layer_backward(
                passed, own, x[..., :start], mid, grad_new, total[..., :start]
            )
            moments[:, :start] += added
            found[:0] = gradients
            stop = start
        grad_x = self._complete(x, total, moments, slice(0, stop))
        self.memory.clear()
        return [grad_x, *found]

    def _layer_backward(
        self,
        passed: _LayerPass,
        parameters: Sequence[Tensor],
        before: Tensor,
        mid: Tensor | None,
        grad_new: Tensor,
        total: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients by a layer's parameters, and slope and offset of `NormAtWork.backward`.

        The gradient by the features before it is added to ``total``, but for the latter.
        """
        layer, stage1, stage2 = passed
        kernel1, kernel2 = parameters[2], parameters[5]
        if mid is None:
            mid = self._scratch("mid", kernel1.shape[0])
            self._pointwise(stage1, before, kernel1, mid)
        grad, grad_kernel2 = self._spatial_backward(layer.conv2, stage2, mid, kernel2, grad_new)
        sums = self._zeros(2, mid.shape[-1])
        for place in self._chunks(mid.shape[-1]):
            rectified = stage2.rectify(mid[place], self._like("rectified", mid[place]))
            stage2.backward_(grad[place], mid[place], rectified, place, sums)
        grad_weight2, grad_bias2, slope, offset = stage2.norm.backward(sums)
        to_mid = (stage2.norm.scale, slope, offset)
        grad_kernel1, sums = self._pointwise_backward(
            stage1, before, kernel1, (mid, grad), to_mid, total
        )
        grad_weight1, grad_bias1, *added = stage1.norm.backward(sums)
        gradients = [grad_weight1, grad_bias1, grad_kernel1, grad_weight2, grad_bias2, grad_kernel2]
        return gradients, torch.stack(added)

    def _spatial_backward(
        self, conv: SliceConv, stage: Stage, mid: Tensor, kernel: Tensor, grad_new: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients by the mixed bottleneck and by the kernel of the second convolution."""
        mixed = self._scratch("mixed bottleneck", mid.shape[-1])
        self._activate(stage, mid, mixed)
        geometry = (conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups)
        grad, grad_kernel, _ = torch.ops.aten.convolution_backward(
            grad_new, fold(mixed), kernel.to(self.dtype), None, *geometry, (True, True, False)
        )
        grad = grad.contiguous(memory_format=torch.channels_last)
        return self._unfold(grad), grad_kernel.to(kernel.dtype)

    def _pointwise_backward(
        self,
        stage: Stage,
        x: Tensor,
        kernel: Tensor,
        mid_and_grad: tuple[Tensor, Tensor],
        to_mid: tuple[Tensor, Tensor, Tensor],
        total: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Take gradients back through the first convolution and what is before it.

        Args:
            stage: What is before it.
            x: Features before the layer.
            kernel: Of the convolution.
            mid_and_grad: What it gave, and the gradient by its normalized values.
            to_mid: ``scale``, ``slope`` and ``offset``: the gradient by what it gave is
                ``grad * scale + mid * slope + offset``.
            total: What the gradient by ``x`` is added to, but for its own slope and offset.

        Returns:
            Gradient by the kernel, and sums for `NormAtWork.backward`.
        """
        (mid, grad), (scale, slope, offset) = mid_and_grad, to_mid
        matrix = kernel.flatten(1).to(self.dtype)
        grad_kernel, sums = self._zeros(*matrix.shape), self._zeros(2, x.shape[-1])
        for place in self._chunks(x.shape[-1]):
            grad_mid = self._like("grad of mid", mid[place])
            torch.addcmul(offset, mid[place], slope, out=grad_mid).addcmul_(grad[place], scale)
            rectified = stage.rectify(x[place], self._like("rectified", x[place]))
            mixed = stage.mix_(self._like("mixed", rectified).copy_(rectified), place)
            pixels = grad_mid.flatten(0, 3)
            grad_kernel += pixels.t() @ mixed.flatten(0, 3)
            grad_mixed = torch.mm(pixels, matrix, out=mixed.flatten(0, 3)).view_as(mixed)
            stage.backward_(grad_mixed, x[place], rectified, place, sums)
            total[place].addcmul_(grad_mixed, stage.norm.scale)
        return grad_kernel.view_as(kernel).to(kernel.dtype), sums

    def _complete(self, x: Tensor, total: Tensor, moments: Tensor, channels: slice) -> Tensor:
        """The gradient by some features, folded, once all layers behind them have added theirs."""
        slope, offset = moments[:, channels]
        grad = torch.addcmul(offset, x[..., channels], slope).add_(total[..., channels])
        return fold(grad.to(self.dtype))

    def _chunks(self, channels: int) -> Iterator[Place]:
        """Some rows of all slices of a stack at a time; on other devices than a CPU all at once."""
        batch, depth, height, width = self.shape
        if self.device.type != "cpu":
            yield slice(batch), slice(depth), slice(height)
            return
        row = max(depth * width * channels * self.dtype.itemsize, 1)
        rows = max(CHUNK_BYTES // row, 1)
        for index in range(batch):
            for start in range(0, height, rows):
                stop = min(start + rows, height)
                yield slice(index, index + 1), slice(depth), slice(start, stop)

    def _unfold(self, images: Tensor) -> Tensor:
        """(N * D, C, H, W) -> (N, D, H, W, C)."""
        return images.movedim(1, -1).view(*self.shape, images.shape[1])

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.wide, device=self.device)

    def _volume(self, channels: int) -> Tensor:
        return torch.empty(*self.shape, channels, dtype=self.dtype, device=self.device)

    def _scratch(self, name: str, channels: int) -> Tensor:
        """A volume of undefined content that layers share."""
        return self._memory(name, (*self.shape, channels))

    def _like(self, name: str, x: Tensor) -> Tensor:
        """A chunk of undefined content that chunks and layers share."""
        return self._memory(name, x.shape)

    def _memory(self, name: str, shape: Sequence[int]) -> Tensor:
        size = torch.Size(shape).numel()
        memory = self.memory.get(name)
        if memory is None or memory.numel() < size:
            memory = torch.empty(size, dtype=self.dtype, device=self.device)
            self.memory[name] = memory
        return memory[:size].view(*shape)
