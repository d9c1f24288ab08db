"""Hounsfield units to network input."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from numpy.typing import NDArray


def apply_window(
    volume: NDArray[np.float32],
    window: tuple[float, float],
    scale: float = 255.0,
    offset: float = 0.0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Clip to a window and map it to ``[offset, offset + scale]``.

    Args:
        volume: Any shape, in HU.
        window: Lower and upper end in HU.
        scale: What the width of the window becomes.
        offset: What the lower end becomes.
        out: Where to put it, ``volume`` itself, say; None makes a new array.

    Returns:
        Float32 of the same shape: ``out``, if that is given.

    Raises:
        ValueError: If a stride of ``out`` is below 0, as after ``np.flip``.
    """
    low, high = window
    factor = scale / (high - low)
    if out is None:
        out = np.array(volume, np.float32)
    elif out is not volume:
        out[...] = volume
    # By PyTorch, which takes two passes; numpy takes three, and clips as slowly as the other two.
    gray = torch.from_numpy(out)
    shift = torch.scalar_tensor(offset - low * factor, dtype=torch.float32)
    torch.add(shift, gray, alpha=factor, out=gray)
    gray.clamp_(*sorted((offset, offset + scale)))  # at last, so that both ends are exact
    return out


@TRANSFORMS.register_module()
class WindowCT(BaseTransform):
    """Window a stack of slices, in place: HU to ``[offset, offset + scale]``.

    The defaults are those of AlignShift (arXiv 2005.01969) and A3D (arXiv 2109.08684): all that
    CT tells in the body, to 0..255, minus about the mean.

    Required and modified key: ``img``, ``(H, W, D)`` in HU.

    Args:
        window: Lower and upper end in HU.
        scale: What the width of the window becomes.
        offset: What the lower end becomes.

    Raises:
        ValueError: If the window's lower end is not below its upper end.
    """

    def __init__(
        self,
        window: tuple[float, float] = (-1024, 2050),
        scale: float = 255.0,
        offset: float = -50.0,
    ) -> None:
        low, high = window
        if not low < high:
            raise ValueError(f"window must be (lower, upper) in HU, lower first, got {window}")
        self.window, self.scale, self.offset = (float(low), float(high)), scale, offset

    def transform(self, results: dict) -> dict:
        """Window ``results['img']``."""
        volume = results["img"]
        in_place = volume.dtype == np.float32 and volume.flags.writeable and min(volume.strides) > 0
        out = volume if in_place else None  # PyTorch knows no strides below 0
        results["img"] = apply_window(volume, self.window, self.scale, self.offset, out)
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(window={self.window}, scale={self.scale}, offset={self.offset})"
        )
