"""A3D: learned asymmetric mixing of slices (Yang et al., arXiv 2109.08684)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import SliceConv
from .checks import check_volume

__all__ = ["A3DConv", "adaptive_align"]

INIT_NOISE = 0.1


def adaptive_align(x: Tensor, weights: Tensor) -> Tensor:
    """Mix the slices of every channel: ``out[:, c, k] = sum_d weights[d, k, c] * x[:, c, d]``.

    Equation 2 of arXiv 2109.08684. The same as ``einsum("ncdhw,dkc->nckhw", x, weights)``, without
    bringing the channels to the front and back for a batched matrix product.

    Args:
        x: Volume of shape (N, C, D, H, W), slices from top to bottom; it is not changed.
        weights: Shape (D, D, C), from slice d (first) to slice k (second).

    Returns:
        New volume of the same shape and memory format.

    Raises:
        ValueError: If the shapes do not fit.
    """
    check_volume(x)
    channels, depth = x.shape[1:3]
    if weights.shape != (depth, depth, channels):
        raise ValueError(
            f"weights must be of shape (D, D, C) = {(depth, depth, channels)} for x of shape "
            f"{tuple(x.shape)}, got {tuple(weights.shape)}"
        )
    out: Tensor = _AdaptiveAlign.apply(x, weights.to(x.dtype))
    return out


class _AdaptiveAlign(torch.autograd.Function):
    """Sums up in place; autograd through the same lines would keep and add D * D terms.

    The transpose of mixing is mixing with transposed weights, so that backward, and the backward of
    that, are this same function and `_SliceProducts`.
    """

    @staticmethod
    def forward(x: Tensor, weights: Tensor) -> Tensor:
        from_slice = weights.transpose(1, 2)[:, None, :, :, None, None]  # each (1, C, D, 1, 1)
        out = torch.zeros_like(x)
        for d in range(x.shape[2]):
            out.addcmul_(x[:, :, d : d + 1], from_slice[d])
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        for_x, for_weights = ctx.needs_input_grad
        return (
            _AdaptiveAlign.apply(grad_out, weights.transpose(0, 1)) if for_x else None,
            _SliceProducts.apply(x, grad_out) if for_weights else None,
        )


class _SliceProducts(torch.autograd.Function):
    """Products of every slice d of ``x`` with every slice k of ``y``, (D, D, C), summed in-plane.

    Slice by slice, as the product of two whole volumes would leave the processor's cache.
    """

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        columns = y.unbind(2)
        return torch.stack(
            [torch.stack([(a * b).sum((0, 2, 3)) for b in columns]) for a in x.unbind(2)]
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        for_x, for_y = ctx.needs_input_grad
        return (
            _AdaptiveAlign.apply(y, grad_out.transpose(0, 1)) if for_x else None,
            _AdaptiveAlign.apply(x, grad_out) if for_y else None,
        )


class A3DConv(SliceConv):
    """Learned mixing of the slices, then a 2D convolution of every slice (arXiv 2109.08684).

    Takes the arguments of `SliceConv`, the settings of `configure`, and a thickness like every
    operator, of which it makes no use.

    Attributes:
        adaptive_align_weights: Shape (D, D, C_in), at first the identity plus uniform noise.
    """

    adaptive_align_weights: nn.Parameter | None

    def configure(self, dimension: int = 3, enable_shift: bool = True) -> None:
        """Make the mixing weights.

        Args:
            dimension: Number of slices D of the stacks it is built for.
            enable_shift: Whether to mix at all. Without, there are no mixing weights either.

        Raises:
            TypeError: If ``dimension`` is no integer.
            ValueError: If it is below 1.
        """
        if not isinstance(dimension, int):
            raise TypeError(f"dimension must be an integer number of slices, got {dimension!r}")
        if dimension < 1:
            raise ValueError(f"dimension must be >= 1 slices, got {dimension}")
        self.dimension = dimension
        self.enable_shift = enable_shift
        self.register_parameter("adaptive_align_weights", None)
        if enable_shift:
            noise = self.weight.new_empty(dimension, dimension, self.in_channels)
            noise.uniform_(-INIT_NOISE, INIT_NOISE)
            identity = torch.eye(dimension, dtype=noise.dtype, device=noise.device)
            self.adaptive_align_weights = nn.Parameter(identity[:, :, None] + noise)

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Apply `adaptive_align` to ``x`` (N, C, D, H, W).

        Raises:
            ValueError: If D is not the ``dimension`` that the weights were built for.
        """
        if self.adaptive_align_weights is None:
            return x
        if x.shape[2] != self.dimension:
            raise ValueError(
                f"A3DConv was built for dimension={self.dimension} slices, got a stack of "
                f"{x.shape[2]} (x of shape {tuple(x.shape)})"
            )
        return adaptive_align(x, self.adaptive_align_weights)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *args: Any,
    ) -> None:
        """Take the weights of a 2D convolution as well: the mixing weights stay as they are."""
        missing: list[str] = []
        loaded = (state_dict, prefix, local_metadata, strict, missing, *args)
        super()._load_from_state_dict(*loaded)
        mixing = f"{prefix}adaptive_align_weights"
        missing_keys += [key for key in missing if key != mixing or f"{prefix}weight" in missing]
