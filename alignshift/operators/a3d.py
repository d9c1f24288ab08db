"""A3D: learned asymmetric mixing of slices (Yang et al., arXiv 2109.08684)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import SliceConv, check_volume

__all__ = ["A3DConv", "adaptive_align"]

INIT_NOISE = 0.1


def adaptive_align(x: Tensor, weights: Tensor) -> Tensor:
    """Mix the slices of every channel: ``out[:, c, k] = sum_d weights[d, k, c] * x[:, c, d]``.

    Equation 2 of arXiv 2109.08684. The same as ``einsum("ncdhw,dkc->nckhw")``, written as D * D
    fused multiply-adds, because the batched matrix product of `torch.einsum` has to bring the
    channels to the front and back.

    Args:
        x: Volume of shape (N, C, D, H, W), slices from top to bottom.
        weights: Shape (D, D, C), from slice d (first) to slice k (second).

    Returns:
        New volume of the same shape.

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
    per_channel = weights.to(x.dtype).view(depth, depth, 1, channels, 1, 1)
    slices = x.unbind(2)
    mixed = []
    for k in range(depth):
        out = slices[0] * per_channel[0, k]
        for d in range(1, depth):
            out = torch.addcmul(out, slices[d], per_channel[d, k])
        mixed.append(out)
    return torch.stack(mixed, dim=2)


class A3DConv(SliceConv):
    """Learned mixing of the slices, then a 2D convolution of every slice (arXiv 2109.08684).

    Takes a thickness like every operator and makes no use of it.

    Args:
        *args: As in `SliceConv`.
        dimension: Number of slices D of the stacks it is built for.
        enable_shift: Whether to mix at all. Without, there are no mixing weights either.
        **kwargs: As in `SliceConv`.

    Attributes:
        adaptive_align_weights: Shape (D, D, C_in), at first the identity plus uniform noise.

    Raises:
        ValueError: If ``dimension`` is below 1.
    """

    adaptive_align_weights: nn.Parameter | None

    def __init__(
        self, *args: Any, dimension: int = 3, enable_shift: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if dimension < 1:
            raise ValueError(f"dimension must be >= 1 slices, got {dimension}")
        self.dimension = dimension
        self.enable_shift = enable_shift
        self.register_parameter("adaptive_align_weights", None)
        if enable_shift:
            noise = torch.empty(dimension, dimension, self.in_channels)
            noise.uniform_(-INIT_NOISE, INIT_NOISE)
            self.adaptive_align_weights = nn.Parameter(torch.eye(dimension)[:, :, None] + noise)

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

    def extra_repr(self) -> str:
        """Describe the convolution and the mixing."""
        convolution = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{convolution}, dimension={self.dimension}, enable_shift={self.enable_shift}"
