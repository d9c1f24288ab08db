"""I3D: 2D kernels inflated over the slices (Carreira and Zisserman, arXiv 1705.07750)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from .base import SliceConv, slice_conv2d
from .checks import check_volume
from .conv3d import (
    check_plain_conv2d,
    check_zero_padding,
    padded_conv3d,
    plane_padding,
    same_padding,
)
from .folding import fold_result

__all__ = ["I3DConv", "i3d_conv", "inflate_kernel"]

_Pair = tuple[int, int]
MODES = ("mean", "center")
NDIM_2D, NDIM_3D = 4, 5  # of a kernel, with its channels


def inflate_kernel(weight: Tensor, depth: int, mode: str = "mean") -> Tensor:
    """Make a 3D kernel of a 2D one (section 2.3 of arXiv 1705.07750).

    Args:
        weight: 2D kernel of shape (C_out, C / groups, kh, kw); it is not changed.
        depth: Number of slices kd that the 3D kernel spans, 1 or more.
        mode: ``"mean"`` repeats the kernel and divides by ``depth``, so that a stack of equal
            slices gives the response of one. ``"center"`` puts it at the slice itself, between
            zeros, so that every slice gives its own; of an even depth at the one before the middle.

    Returns:
        New kernel of shape (C_out, C / groups, kd, kh, kw).

    Raises:
        ValueError: If an argument is out of range.
    """
    if weight.ndim != NDIM_2D:
        raise ValueError(
            f"weight must be of shape (C_out, C / groups, kh, kw), got {tuple(weight.shape)}"
        )
    if depth < 1:
        raise ValueError(f"depth must be >= 1 slices, got {depth}")
    _check_mode(mode, "mode")
    flat = weight.unsqueeze(2)
    if mode == "mean":
        return flat.div(depth).repeat(1, 1, depth, 1, 1)
    return F.pad(flat, (0, 0, 0, 0, *same_padding(depth, dilation=1)))


def _check_mode(mode: str, name: str) -> None:
    if mode not in MODES:
        raise ValueError(f"{name} must be 'mean' or 'center', got {mode!r}")


def i3d_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | _Pair = 1,
    padding: str | int | _Pair = 0,
    dilation: int | _Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve with an inflated kernel, keeping the number of slices.

    Over the slices the stride is 1, the dilation that of the smaller in-plane axis, and as many
    zeros lie beyond the ends of the stack as keep D; a kernel of even depth has the odd one at the
    bottom. A flat kernel, kd = 1, gives `slice_conv2d`.

    Args:
        x: Volume of shape (N, C, D, H, W), fastest in channels_last_3d.
        weight: 3D kernel of shape (C_out, C / groups, kd, kh, kw), see `inflate_kernel`.
        bias: Shape (C_out,).
        stride: In-plane stride.
        padding: In-plane padding with zeros.
        dilation: In-plane dilation.
        groups: Number of channel groups.

    Returns:
        Volume of shape (N, C_out, D, H', W') in channels_last_3d.

    Raises:
        ValueError: If ``x`` or ``weight`` is not five-dimensional or ``padding`` makes no sense.
    """
    check_volume(x)
    if weight.ndim != NDIM_3D:
        raise ValueError(
            f"weight must be of shape (C_out, C / groups, kd, kh, kw), got {tuple(weight.shape)}"
        )
    if weight.shape[2] == 1:
        return slice_conv2d(x, weight.squeeze(2), bias, stride, padding, dilation, groups)
    depth, *size = weight.shape[2:]
    in_plane = _pair(dilation)
    over_slices = in_plane[0] if size[0] <= size[1] else in_plane[1]
    zeros = plane_padding(padding, _pair(size), _pair(stride), in_plane)
    return padded_conv3d(
        x,
        weight,
        bias,
        _pair(stride),
        (same_padding(depth, over_slices), *zeros),
        (over_slices, *in_plane),
        groups,
    )


class I3DConv(SliceConv):
    """3D convolution with a kernel inflated from a 2D one (arXiv 1705.07750).

    Takes the arguments of `SliceConv`, the settings of `configure`, and a thickness like every
    operator, of which it makes no use. The kernel is as deep as its smaller in-plane size.

    Attributes:
        weight: Shape (C_out, C / groups, kd, kh, kw), at first a 2D convolution's, inflated.
    """

    def configure(self, inflate: str = "mean") -> None:
        """Inflate the kernel, unless that was done before.

        Args:
            inflate: How a 2D kernel becomes the 3D one, now and in `load_state_dict`: ``"mean"`` or
                ``"center"``, see `inflate_kernel`.

        Raises:
            ValueError: If ``inflate`` is neither, or ``padding_mode`` is not ``"zeros"``.
        """
        check_zero_padding(self, "I3DConv")
        _check_mode(inflate, "inflate")
        self.inflate = inflate
        if self.weight.ndim == NDIM_2D:
            kernel = inflate_kernel(self.weight.detach(), min(self.kernel_size), inflate)
            self.weight = nn.Parameter(kernel, self.weight.requires_grad)

    @classmethod
    def check_convertible(cls, conv: nn.Conv2d) -> None:
        """Check that a 2D convolution is its ``weight``, a parameter of its own, and no more.

        Raises:
            ValueError: If its class convolves in its own way, its weight is computed of other
                parameters (weight norm), or it does not pad with zeros.
        """
        check_plain_conv2d(conv, "I3DConv")
        if "weight" not in conv._parameters:
            raise ValueError(
                "conv must have its weight as a parameter to become I3DConv, which inflates it; "
                "got one that is computed of others (parametrized or weight-normed: remove that "
                "first, and put it back on the inflated weight)"
            )

    def convolve(self, x: Tensor) -> Tensor:
        """Apply `i3d_conv` to ``x`` (N, C, D, H, W)."""
        geometry: tuple[Any, ...] = (self.stride, self.padding, self.dilation, self.groups)
        return i3d_conv(x, self.weight, self.bias, *geometry)

    def convolve_folded(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same, with the slices of the result in the batch."""
        return fold_result(self.convolve(x))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Take the weight of a 2D convolution as well."""
        name = f"{prefix}weight"
        given = state_dict.get(name)
        # A lazy one, not inflated yet, has no number of dimensions; a 2D weight is what it takes.
        inflated = getattr(self, "inflate", None) is not None
        if inflated and isinstance(given, Tensor) and given.ndim == NDIM_2D:
            kernel = inflate_kernel(given, self.weight.shape[2], self.inflate)
            state_dict = {**state_dict, name: kernel}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
