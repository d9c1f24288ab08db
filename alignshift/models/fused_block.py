"""A dense block as one function: what lies between its convolutions hardly leaves the cache.

A dense layer normalizes *all* features before it. Written layer by layer, a block of L layers
copies, normalizes, rectifies and mixes each feature up to L times, each time in memory newly taken
from the system: on large slices that takes longer than its convolutions. Here

* the features of a block lie in one buffer, into which each layer writes its own: nothing is
  concatenated;
* their batch statistics are computed once, for layers differ in the affine part of their batch
  norms only;
* normalization, ReLU, the mix of slices and the pointwise convolution run on a few rows of all
  slices at a time, in memory that is used again and fits into the cache;
* backward computes that again rather than keep it (as Pleiss et al., arXiv 1707.06990), and adds
  the gradients of all layers up in one buffer.

Volumes are laid out (N, D, H, W, C) in here. Sums over pixels have at least float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .block_pass import BlockPass

if TYPE_CHECKING:
    from .dense_block import DenseLayer

__all__ = ["can_fuse", "fused_block"]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def can_fuse(layers: Sequence[DenseLayer]) -> bool:
    """Whether `fused_block` can stand for these layers without anybody noticing.

    It cannot under a compiler, which fuses by itself, with hooks on a layer, with batch norms or
    convolutions of another kind, or with dropout at work.
    """
    tracing = torch.jit.is_tracing()  # type: ignore[no-untyped-call]
    if tracing or torch.compiler.is_compiling():
        return False
    return all(map(_is_plain, layers))


def _is_plain(layer: DenseLayer) -> bool:
    norms, convs = (layer.norm1, layer.norm2), (layer.conv1, layer.conv2)
    if layer.drop_rate and layer.training:
        return False
    if any(getattr(part, hooks) for part in (layer, *norms, *convs) for hooks in HOOKS):
        return False
    # Declared by the class itself: one derived from it may mix slices in its own way.
    plain = all(type(conv).__dict__.get("fusible", False) for conv in convs)
    return plain and all(
        type(norm) is nn.BatchNorm2d and norm.affine and norm.running_mean is not None
        for norm in norms
    )


def fused_block(
    x: Tensor, layers: Sequence[DenseLayer], depth: int, thickness: Tensor | None
) -> Tensor:
    """Compute a dense block.

    Args:
        x: Features before the block, slices folded into the batch: (N * D, C, H, W).
        layers: Its layers, for which `can_fuse` holds.
        depth: Slices D of a stack.
        thickness: Slice thickness in mm, shape (N,) or (N, 1), or ``None``.

    Returns:
        All features, (N * D, C', H, W) in channels_last.
    """
    kind = x.device.type
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if autocast and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(kind))
    parameters = [p for layer in layers for p in layer.parameters()]
    block = BlockPass(layers, depth, thickness, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters)):
        out: Tensor = _FusedBlock.apply(block, x, *parameters)
        return out
    return block.forward(x, keep=False)


class _FusedBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: BlockPass, x: Tensor, *parameters: Tensor) -> Tensor:
        features = block.forward(x, keep=True)
        ctx.block, ctx.num_parameters = block, len(parameters)
        ctx.save_for_backward(features, *parameters, *block.take_bottlenecks())
        return features

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # by create_graph=True
            raise RuntimeError(
                "gradients of gradients cannot be had through fused dense blocks: "
                "build the network with fused=False"
            )
        features, *rest = ctx.saved_tensors
        parameters, bottlenecks = rest[: ctx.num_parameters], rest[ctx.num_parameters :]
        return None, *ctx.block.backward(grad, features, parameters, bottlenecks)
