"""Hounsfield units to network input."""

from __future__ import annotations

import numpy as np
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
    """
    low, high = window
    factor = scale / (high - low)
    out = np.clip(volume, low, high, out=out).astype(np.float32, copy=False)
    out *= np.float32(factor)
    out += np.float32(offset - low * factor)
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
        # In place: a stack of 7 x 512 x 512 px is 7 MB, which the system clears before it gives it.
        out = volume if volume.dtype == np.float32 and volume.flags.writeable else None
        results["img"] = apply_window(volume, self.window, self.scale, self.offset, out)
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(window={self.window}, scale={self.scale}, offset={self.offset})"
        )
