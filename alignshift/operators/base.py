"""Slice-wise convolution: the part that every 3D-context operator shares."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .context import SliceContext
from .folding import fold_slices, unfold_slices
from .recompute import mix_and_convolve

__all__ = [
    "SliceConv",
    "check_thickness",
    "check_volume",
    "fold_slices",
    "slice_conv2d",
    "unfold_slices",
]

_Pair = tuple[int, int]
VOLUME_NDIM = 5


def check_volume(x: Tensor, channels: int | None = None) -> None:
    """Check that ``x`` is a stack of slices.

    Args:
        x: Tensor that should be of shape (N, C, D, H, W).
        channels: Number of channels that it should have, any number where ``None``.

    Raises:
        ValueError: If it has another number of dimensions or of channels.
    """
    if x.ndim != VOLUME_NDIM:
        raise ValueError(f"x must be of shape (N, C, D, H, W), got {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(
            f"x must have {channels} channels in (N, C, D, H, W), got shape {tuple(x.shape)}"
        )


def check_thickness(thickness: Tensor | None, x: Tensor) -> None:
    """Check that ``thickness``, where there is one, goes with the stacks of ``x`` (N, C, D, H, W).

    Raises:
        ValueError: If it is not floating point, of another length than N or on another device.
    """
    if thickness is None:
        return
    if thickness.shape not in ((x.shape[0],), (x.shape[0], 1)):
        raise ValueError(
            f"thickness must be of shape (N,) or (N, 1) with N = {x.shape[0]}, "
            f"got {tuple(thickness.shape)}"
        )
    if not thickness.is_floating_point():
        raise ValueError(f"thickness must be floating point (mm), got {thickness.dtype}")
    if thickness.device != x.device:
        raise ValueError(f"thickness must be on {x.device} like x, got {thickness.device}")


def slice_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | _Pair = 1,
    padding: str | int | _Pair = 0,
    dilation: int | _Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve each slice with a 2D kernel, that is, convolve with a (1, k, k) kernel.

    Runs as one 2D convolution over N * D images, whose kernels are far faster than the 3D ones.

    Args:
        x: Volume of shape (N, C, D, H, W), fastest in channels_last_3d.
        weight: 2D kernel of shape (C_out, C / groups, k, k).
        bias: Shape (C_out,).
        stride: In-plane stride.
        padding: In-plane padding.
        dilation: In-plane dilation.
        groups: Number of channel groups.

    Returns:
        Volume of shape (N, C_out, D, H', W') in channels_last_3d.

    Raises:
        ValueError: If ``x`` is not five-dimensional.
    """
    check_volume(x)
    out = F.conv2d(fold_slices(x), weight, bias, stride, padding, dilation, groups)
    return unfold_slices(out, x.shape[2])


class SliceConv(nn.Conv2d):
    """2D convolution of every slice of a volume; base class of the 3D-context operators.

    Being an `nn.Conv2d` with a 4-D weight, it is initialized like one and loads 2D checkpoints as
    they are. An operator overrides `mix_slices`, which exchanges information between slices, or
    `convolve` where its kernel is more than a 2D one; its own settings are those of `configure`.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels C_out of the output.
        kernel_size: In-plane kernel size.
        stride: In-plane stride.
        padding: In-plane padding.
        dilation: In-plane dilation.
        groups: Number of channel groups.
        bias: Whether to add a bias.
        padding_mode: In-plane padding mode, as in `nn.Conv2d`.
        device: As in `nn.Conv2d`.
        dtype: As in `nn.Conv2d`.
        **settings: The operator's own, see its `configure`.
    """

    # Whether backward mixes the slices again rather than keep the mixed copy from forward; for
    # operators without parameters of their own.
    recompute_mix: bool = False
    # Set in the layers of a converted network, whose slices are folded into the batch.
    context: SliceContext | None = None
    path: str = ""
    # The operator and the kind of 2D convolution that it was put on top of, see `combined_class`.
    combination: ClassVar[tuple[type[SliceConv], type[nn.Conv2d]] | None] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | _Pair,
        stride: int | _Pair = 1,
        padding: str | int | _Pair = 0,
        dilation: int | _Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **settings: Any,
    ) -> None:
        plane: tuple[Any, ...] = (kernel_size, stride, padding, dilation, groups, bias)
        place: dict[str, Any] = {"padding_mode": padding_mode, "device": device, "dtype": dtype}
        super().__init__(in_channels, out_channels, *plane, **place)
        self.configure(**settings)

    def configure(self) -> None:
        """Set what the operator has beside a 2D convolution; this base class has nothing."""

    @classmethod
    def check_convertible(cls, conv: nn.Conv2d) -> None:
        """Check that a 2D convolution can be turned into this operator; mixing slices always can.

        Raises:
            ValueError: If it cannot, saying why.
        """

    @classmethod
    def operator_name(cls) -> str:
        """Name of the operator's class, also where it was put on top of another convolution."""
        return cls.combination[0].__name__ if cls.combination else cls.__name__

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of the operator's own settings."""
        return tuple(inspect.signature(cls.configure).parameters)[1:]

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Mix the slices of ``x`` (N, C, D, H, W); this base class leaves it alone."""
        return x

    def unmix_gradient_(self, grad: Tensor, thickness: Tensor | None) -> Tensor:
        """Turn a gradient by the result of `mix_slices` into one by its input, in place.

        For operators that set ``recompute_mix``.
        """
        return grad

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve every slice of ``x`` (N, C, D, H, W) with the 2D kernel."""
        return unfold_slices(super().forward(fold_slices(x)), x.shape[2])

    def forward(self, x: Tensor, thickness: Tensor | None = None) -> Tensor:
        """Mix the slices, then convolve each.

        Args:
            x: Volume of shape (N, C, D, H, W), slices from top to bottom. In a converted network
                (N * D, C, H, W): `SliceContext` has the rest.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.

        Returns:
            Volume of shape (N, C_out, D, H', W') in channels_last_3d, folded if ``x`` is.

        Raises:
            ValueError: If the shape of ``x``, or shape, dtype or device of ``thickness``, is wrong.
        """
        if self.context is None:
            return self._forward_volume(x, thickness)
        frame = self.context.frame_of(x, self.path)
        return fold_slices(self._forward_volume(unfold_slices(x, frame.depth), frame.thickness))

    def _forward_volume(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        check_volume(x, self.in_channels)
        check_thickness(thickness, x)
        if self._mixes_again():
            return mix_and_convolve(self, x, thickness, self.weight, self.bias)
        return self.convolve(self.mix_slices(x, thickness))

    def _mixes_again(self) -> bool:
        """Whether backward mixes again: where a gradient will be asked for, and how is known."""
        # A compiler decides by itself what it keeps and what it computes twice.
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        plain = self.padding_mode == "zeros" and not isinstance(self.padding, str)
        return self.recompute_mix and plain and self.combination is None

    def scratch_like(self, x: Tensor) -> Tensor | None:
        """Memory for the mixed copy of ``x``, where nobody keeps that and layers can share it."""
        if self.context is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        # The allocators of other devices keep what was freed.
        dense = x.is_contiguous(memory_format=torch.channels_last_3d)
        return self.context.scratch_like(x) if dense and x.device.type == "cpu" else None

    def extra_repr(self) -> str:
        """Describe the convolution and the operator's own settings."""
        # A lazy layer has none yet.
        names = (name for name in self.setting_names() if hasattr(self, name))
        settings = (f"{name}={getattr(self, name)}" for name in names)
        return ", ".join([super().extra_repr(), *settings])  # type: ignore[no-untyped-call]
