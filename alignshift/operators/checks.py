"""Checks of what operators and networks are given."""

from __future__ import annotations

from torch import Tensor

__all__ = ["VOLUME_NDIM", "check_thickness", "check_volume"]

VOLUME_NDIM = 5


def check_volume(x: Tensor, *channels: int) -> None:
    """Check that ``x`` is a stack of slices.

    Args:
        x: Tensor that should be of shape (N, C, D, H, W).
        *channels: Numbers of channels that it may have; any number where there are none.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another number of dimensions or of channels.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x must be a tensor of shape (N, C, D, H, W), got a {type(x).__name__}: "
            "torch.as_tensor makes one of an array"
        )
    if x.ndim != VOLUME_NDIM:
        raise ValueError(f"x must be of shape (N, C, D, H, W), got {tuple(x.shape)}")
    if channels and x.shape[1] not in channels:
        wanted = " or ".join(map(str, channels))
        raise ValueError(
            f"x must have {wanted} channels in (N, C, D, H, W), got shape {tuple(x.shape)}"
        )


def check_thickness(thickness: Tensor | None, x: Tensor) -> None:
    """Check that ``thickness``, where there is one, goes with the stacks of ``x`` (N, C, D, H, W).

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is not floating point, of another length than N or on another device.
    """
    if thickness is None:
        return
    if not isinstance(thickness, Tensor):
        raise TypeError(
            "thickness must be a tensor of shape (N,) or (N, 1) in mm, got a "
            f"{type(thickness).__name__}: give torch.tensor with a number for each of the "
            f"{x.shape[0]} stacks"
        )
    if thickness.shape not in ((x.shape[0],), (x.shape[0], 1)):
        raise ValueError(
            f"thickness must be of shape (N,) or (N, 1) with N = {x.shape[0]}, "
            f"got {tuple(thickness.shape)}"
        )
    if not thickness.is_floating_point():
        raise ValueError(f"thickness must be floating point (mm), got {thickness.dtype}")
    if thickness.device != x.device:
        raise ValueError(f"thickness must be on {x.device} like x, got {thickness.device}")
