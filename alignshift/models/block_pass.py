"""The work of `fused_block`, forward and back; see there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .spatial_gradient import spatial_gradient
from .stages import NormAtWork, Stage, batch_moments, fold
from .sync_norm import is_synchronized, joint_moments, pixels_of_processes
from .workspace import Workspace

if TYPE_CHECKING:
    from torch.nn import BatchNorm2d

    from alignshift.operators import SliceConv

    from .dense_block import DenseLayer

__all__ = ["BlockPass"]

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
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        norms = (norm for layer in layers for norm in (layer.norm1, layer.norm2))
        self.joint = is_synchronized(norms)
        self.pixels = pixels_of_processes(pixels, x.device) if self.joint else [pixels]
        self.space = Workspace(x, depth)
        self.passed: list[_LayerPass] = []
        self.bottlenecks: list[Tensor] = []

    def forward(self, x: Tensor, keep: bool) -> Tensor:
        """Compute all features.

        Args:
            x: Features before the block, (N * D, C, H, W).
            keep: Whether backward will follow.

        Returns:
            Shape (N * D, C', H, W) in channels_last.
        """
        growth = [layer.conv2.out_channels for layer in self.layers]
        features = self.space.volume(x.shape[1] + sum(growth))
        moments = self.space.zeros(2, features.shape[-1])
        measured = any(layer.norm1.training for layer in self.layers)
        start, new = 0, x
        for layer in self.layers:
            stop = start + new.shape[1]
            features[..., start:stop] = self.space.unfold(new)
            if measured:
                moments[:, start:stop] = self._moments(new)
            new = self._layer(layer, features[..., :stop], moments[:, :stop], keep)
            start = stop
        features[..., start:] = self.space.unfold(new)
        self.space.clear()
        return fold(features)

    def take_bottlenecks(self) -> list[Tensor]:
        """What forward kept of each layer, for autograd to hold instead."""
        taken, self.bottlenecks = self.bottlenecks, []
        return taken

    def _layer(self, layer: DenseLayer, before: Tensor, moments: Tensor, keep: bool) -> Tensor:
        """New features of a layer, folded, from those before it."""
        kept = keep and not layer.memory_efficient
        channels = layer.conv1.out_channels
        mid = self.space.volume(channels) if kept else self.space.shared_volume("mid", channels)
        stage1 = self._stage(layer.norm1, layer.conv1, before, moments)
        self._pointwise(stage1, before, layer.conv1.weight, mid)
        moments = self._moments(fold(mid)) if layer.norm2.training else moments
        stage2 = self._stage(layer.norm2, layer.conv2, mid, moments)
        if keep:
            self.passed.append(_LayerPass(layer, stage1, stage2))
        if kept:
            self.bottlenecks.append(mid)
        mixed = self.space.shared_volume("mixed", channels) if kept else mid
        self._activate(stage2, mid, mixed)
        conv, weight = layer.conv2, layer.conv2.weight.to(self.space.dtype)
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
        kernel = weight.flatten(1).t().to(self.space.dtype)
        for place in self.space.chunks(x.shape[-1]):
            source, target = x[place], out[place]
            mixed = self.space.shared("mixed", source.shape)
            stage.activate(source, mixed, place)
            # One product of dense matrices is faster than one for each slice.
            product = self.space.dense("product", target)
            torch.mm(mixed.flatten(0, 3), kernel, out=product.flatten(0, 3))
            if product is not target:
                target.copy_(product)

    def _activate(self, stage: Stage, x: Tensor, out: Tensor) -> None:
        """Normalize, rectify and mix; ``out`` may be ``x`` itself."""
        for place in self.space.chunks(x.shape[-1]):
            stage.activate(x[place], out[place], place)

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
        x = self.space.unfold(features)
        total = self.space.volume(x.shape[-1]).copy_(self.space.unfold(grad))
        # What the statistics of batches add, the same for all pixels, waits until all is summed up.
        moments = self.space.zeros(2, x.shape[-1])
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
        self.space.clear()
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
            mid = self.space.shared_volume("mid", kernel1.shape[0])
            self._pointwise(stage1, before, kernel1, mid)
        grad, grad_kernel2, sums = self._spatial_backward(
            layer.conv2, stage2, mid, kernel2, grad_new
        )
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take gradients back through the second convolution and what is before it.

        Returns:
            Gradients by the normalized bottleneck and by the kernel, and sums for
            `NormAtWork.backward`.
        """
        channels = mid.shape[-1]
        grad, sums = self.space.shared_volume("grad", channels), self.space.zeros(2, channels)
        gradient = spatial_gradient(conv, kernel, grad_new, self.space)
        for place in self.space.chunks(kernel[:, 0].numel()):  # as wide as its windows are
            chunk = mid[place]
            mixed = self.space.shared("mixed", chunk.shape)
            stage.activate(chunk, mixed, place)
            grad_mixed = gradient.of_chunk(mixed, place)
            stage.backward_(grad_mixed, chunk, mixed, place, sums)
            grad[place] = grad_mixed
        return grad, gradient.by_kernel().to(kernel.dtype), sums

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
        matrix = kernel.flatten(1).to(self.space.dtype)
        grad_matrix, sums = self.space.zeros(*matrix.t().shape), self.space.zeros(2, x.shape[-1])
        for place in self.space.chunks(x.shape[-1]):
            chunk, bottleneck = x[place], mid[place]
            grad_mid = self.space.shared("grad of mid", bottleneck.shape)
            torch.addcmul(offset, bottleneck, slope, out=grad_mid).addcmul_(grad[place], scale)
            mixed = self.space.shared("mixed", chunk.shape)
            stage.activate(chunk, mixed, place)
            pixels = grad_mid.flatten(0, 3)
            grad_matrix += mixed.flatten(0, 3).t() @ pixels
            grad_mixed = self.space.shared("grad of chunk", chunk.shape)
            torch.mm(pixels, matrix, out=grad_mixed.flatten(0, 3))
            stage.backward_(grad_mixed, chunk, mixed, place, sums)
            total[place].addcmul_(grad_mixed, stage.norm.scale)
        return grad_matrix.t().reshape(kernel.shape).to(kernel.dtype), sums

    def _complete(self, x: Tensor, total: Tensor, moments: Tensor, channels: slice) -> Tensor:
        """The gradient by some features, folded, once all layers behind them have added theirs."""
        slope, offset = moments[:, channels]
        grad = torch.addcmul(offset, x[..., channels], slope).add_(total[..., channels])
        return fold(grad.to(self.space.dtype))
