"""Slice-wise convolution: the part that every 3D-context operator shares."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_thickness, check_volume
from .context import SliceContext
from .folding import fold_slices, unfold_slices
from .recompute import mix_and_convolve
from .shift import FoldShift

__all__ = ["SliceConv", "slice_conv2d"]

_Pair = tuple[int, int]


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
    `convolve` and `convolve_folded` where its kernel is more than a 2D one; its own settings are
    those of `configure`.

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
    # Whether the operator is a 2D convolution after its `fold_shift`; each class says for itself.
    fusible: ClassVar[bool] = True
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
    def min_channels(cls, settings: Mapping[str, Any]) -> int:
        """Fewest input channels that the operator can mix with these settings."""
        arguments = inspect.signature(cls.configure).bind(None, **settings)
        arguments.apply_defaults()
        return int(arguments.arguments.get("n_fold", 1))

    @classmethod
    def setting_names(cls) -> tuple[str, ...]:
        """Names of the operator's own settings."""
        return tuple(inspect.signature(cls.configure).parameters)[1:]

    def mix_slices(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        """Mix the slices of ``x`` (N, C, D, H, W); this base class leaves it alone."""
        return x

    def fold_shift(self, x: Tensor, thickness: Tensor | None) -> FoldShift | None:
        """What `mix_slices` does to ``x``, of operators that are `fusible`; ``None`` if nothing."""
        return None

    def unmix_gradient_(self, grad: Tensor, thickness: Tensor | None) -> Tensor:
        """Turn a gradient by the result of `mix_slices` into one by its input, in place.

        For operators that set ``recompute_mix``.
        """
        shift = self.fold_shift(grad, thickness)
        return grad if shift is None else shift.undo_(grad)

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve every slice of ``x`` (N, C, D, H, W) with the 2D kernel."""
        return unfold_slices(self.convolve_folded(x), x.shape[2])

    def convolve_folded(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The same with the slices of the result in the batch: (N * D, C_out, H', W').

        It is what the 2D convolution returns, no view of it, and may be changed in place like that.

        Args:
            x: Shape (N, C, D, H, W).
            *args: What the forward of a 2D convolution of its own kind takes beside images.
            **kwargs: The same, by name.
        """
        return super().forward(fold_slices(x), *args, **kwargs)

    def forward(self, input: Tensor, thickness: Tensor | None = None) -> Tensor:
        """Mix the slices, then convolve each.

        Args:
            input: Volume of shape (N, C, D, H, W), slices from top to bottom. In a converted
                network (N * D, C, H, W): `SliceContext` has the rest.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it. In a
                converted network the network takes it.

        Returns:
            Volume of shape (N, C_out, D, H', W') in channels_last_3d, folded if ``input`` is.

        Raises:
            ValueError: If the shape of ``input``, or shape, dtype or device of ``thickness``, is
                wrong.
            TypeError: If one of them is no tensor, or a converted network gives its layer a second
                argument, which a 2D convolution does not take.
        """
        if self.context is None:
            return self._forward_volume(input, thickness)
        if thickness is not None:
            raise TypeError(
                f"layer {self.path} of a converted network must get images alone, like nn.Conv2d, "
                "got a second argument: give the thickness to the network"
            )
        return self.forward_images(input)

    def _forward_volume(self, x: Tensor, thickness: Tensor | None) -> Tensor:
        check_volume(x, self.in_channels)
        check_thickness(thickness, x)
        if self._mixes_again():
            out = mix_and_convolve(self, x, thickness, self.weight, self.bias)
            return unfold_slices(out, x.shape[2])
        return self.convolve(self.mix_slices(x, thickness))

    def forward_images(self, images: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`forward` in a converted network, on slices folded into the batch.

        Args:
            images: Shape (N * D, C, H, W).
            *args: What the forward of a 2D convolution of its own kind takes beside images.
            **kwargs: The same, by name.

        Returns:
            Shape (N * D, C_out, H', W').
        """
        assert self.context is not None
        frame = self.context.frame_of(images, self.path)
        x = unfold_slices(images, frame.depth)
        check_volume(x, self.in_channels)
        check_thickness(frame.thickness, x)
        if self._mixes_again():
            return mix_and_convolve(self, x, frame.thickness, self.weight, self.bias)
        return self.convolve_folded(self.mix_slices(x, frame.thickness), *args, **kwargs)

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
        # Another kind of convolution may return, or keep, what it is given.
        if self.combination is not None:
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
