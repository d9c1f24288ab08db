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
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from alignshift.operators.recompute import autocast_dtype

from .block_pass import BlockPass
from .spatial_gradient import keeps_size
from .sync_norm import SyncBatchNorm2d

if TYPE_CHECKING:
    from .dense_block import DenseLayer

__all__ = ["can_fuse", "fused_block", "has_hooks", "is_recorded"]

NORMS = (nn.BatchNorm2d, SyncBatchNorm2d)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def can_fuse(layers: Sequence[DenseLayer], x: Tensor) -> bool:
    """Whether `fused_block` can stand for these layers without anybody noticing.

    It cannot under a compiler, which fuses by itself, a transform of `torch.func` or a mode that is
    asked about every operator (which counts FLOPs, or makes tensors of shapes alone), with hooks on
    a layer, with batch norms or convolutions of another kind, with dropout at work, or without
    anything to compute.

    Args:
        layers: Layers of a block.
        x: Features before it.
    """
    if is_recorded() or not x.numel():
        return False
    kinds = {type(norm) for layer in layers for norm in (layer.norm1, layer.norm2)}
    return len(kinds) == 1 and all(map(_is_plain, layers))


def is_recorded() -> bool:
    """Whether a compiler, a tracer, a transform or a dispatch mode follows what is computed."""
    tracing = torch.jit.is_tracing()  # type: ignore[no-untyped-call]
    transformed = torch._C._functorch.peek_interpreter_stack() is not None
    return bool(
        torch.compiler.is_compiling() or tracing or transformed or is_in_torch_dispatch_mode()
    )


def _is_plain(layer: DenseLayer) -> bool:
    parts = (layer, layer.norm1, layer.norm2, layer.conv1, layer.conv2)
    if layer.drop_rate and layer.training:
        return False
    if any(has_hooks(part) for part in parts):
        return False
    norms = all(map(_is_plain_norm, (layer.norm1, layer.norm2)))
    convs = layer.conv1.groups == layer.conv2.groups == 1 and keeps_size(layer.conv2)
    return norms and convs and all(map(_is_plain_conv, parts[3:]))


def _is_plain_norm(norm: nn.Module) -> bool:
    if type(norm) not in NORMS or not (norm.affine and norm.track_running_stats):
        return False
    return norm.running_mean is not None and norm.num_batches_tracked is not None


def _is_plain_conv(conv: nn.Module) -> bool:
    # Declared by the class itself: one derived from it may mix slices in its own way.
    fusible = type(conv).__dict__.get("fusible", False)
    return bool(fusible and conv.padding_mode == "zeros" and conv.bias is None)


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody listens to a module."""
    return any(getattr(module, hooks) for hooks in HOOKS)


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
    x = x.to(autocast_dtype(x) or x.dtype)
    parameters = [p for layer in layers for p in _parameters(layer)]
    block = BlockPass(layers, depth, thickness, x)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *parameters)):
        out: Tensor = _FusedBlock.apply(block, x, *parameters)
        return out
    return block.forward(x, keep=False)


def _parameters(layer: DenseLayer) -> tuple[Tensor, ...]:
    """What a layer learns; by name, for replicas of `nn.DataParallel` list no parameters."""
    norm1, norm2 = layer.norm1, layer.norm2
    first = (norm1.weight, norm1.bias, layer.conv1.weight)
    return (*first, norm2.weight, norm2.bias, layer.conv2.weight)


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
