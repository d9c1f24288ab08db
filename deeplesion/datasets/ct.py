"""Slice files to Hounsfield units: the key slice, its neighbors, and z-resampling.

Slices are files, see :mod:`deeplesion.datasets.slice_files`, or come from a packed cache,
:mod:`deeplesion.datasets.packed`. A stack of ``num_slices`` (odd) is taken around the
key slice at *offsets*, which count stored slices and are negative towards the top of the series:

* where slices are thinner than the wanted interval: every ``target / interval`` slices, by linear
  interpolation between the two stored slices about each offset;
* where they are as thick or thicker: the neighbors as stored (``mode="thin"``, AlignShift, arXiv
  2005.01969), or interpolated as well (``mode="always"``, A3D, arXiv 2109.08684, and TSM);
* where the interval is unknown (NaN, or not positive): the neighbors as stored.

A slice that is not stored is the nearest stored one, the one towards the key slice of two as near.
``legacy=True`` does as the published loader did, mistakes included, for networks trained with it.
"""

from __future__ import annotations

import math
import os
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.dl_info import key_slice_path
from deeplesion.datasets.memory import empty_stack
from deeplesion.datasets.packed import PackedSeries
from deeplesion.datasets.slice_files import (
    HU_OFFSET,
    Slice,
    SliceError,
    Volume,
    inspect_slice,
    read_hu,
    read_slice,
)

__all__ = [
    "HU_OFFSET",
    "OFFSET_TOLERANCE",
    "ResampleMode",
    "SliceError",
    "Volume",
    "check_resampling",
    "inspect_slice",
    "interpolation_weights",
    "load_volume",
    "read_slice",
    "resample_positions",
    "thickness_after",
    "window_to_uint8",
]

#: Offsets this close to a stored slice (in slices) are that slice: 0.1 um at 1 mm.
OFFSET_TOLERANCE = 1e-4

ResampleMode = Literal["thin", "always"]


def thickness_after(
    interval: float, target: float, mode: ResampleMode = "thin", legacy: bool = False
) -> float:
    """Distance in mm of the slices that :func:`resample_positions` gives.

    Args:
        interval: Slice interval as stored, in mm; NaN or not positive means unknown.
        target: Wanted slice interval in mm.
        mode: ``thin`` resamples slices thinner than ``target``, ``always`` all.
        legacy: Give ``interval`` as it is, whatever it is: what published networks were told.

    Returns:
        ``target`` where slices are resampled, else ``interval``; NaN where it is unknown.
    """
    if legacy:
        return interval
    if not _is_known(interval):
        return math.nan
    return target if mode == "always" or interval < target else interval


def resample_positions(
    num_slices: int,
    interval: float,
    target: float,
    mode: ResampleMode = "thin",
    legacy: bool = False,
) -> NDArray[np.float64]:
    """Where to take slices, counted in stored slices from the key slice.

    Args:
        num_slices: How many, odd, the key slice in the middle.
        interval: Slice interval as stored, in mm; NaN or not positive means unknown.
        target: Wanted slice interval in mm.
        mode: ``thin`` resamples slices thinner than ``target``, ``always`` all.
        legacy: Repeat the key slice where ``interval`` is NaN or negative, and round no offset.

    Returns:
        Offsets ``(num_slices,)``, ascending, 0 in the middle.

    Raises:
        ValueError: If ``num_slices`` is even or < 1, ``target`` is not > 0, ``mode`` is unknown,
            or ``legacy`` is set and ``interval`` 0.

    Example:
        >>> resample_positions(3, interval=0.8, target=2.0)
        array([-2.5,  0. ,  2.5])
    """
    check_resampling(num_slices, target, mode)
    around = np.arange(num_slices, dtype=np.float64) - num_slices // 2
    if legacy:
        return around * _published_step(interval, target, mode)
    step = thickness_after(interval, target, mode) / interval if _is_known(interval) else 1.0
    offsets = around * step
    nearest = np.rint(offsets)
    return np.where(np.abs(offsets - nearest) < OFFSET_TOLERANCE, nearest, offsets)


def check_resampling(num_slices: int, target: float, mode: str) -> None:
    """Raise ValueError, naming the argument, unless :func:`resample_positions` takes these."""
    if num_slices < 1 or num_slices % 2 == 0:
        raise ValueError(
            f"num_slices must be odd and >= 1, the key slice in the middle, got {num_slices}"
        )
    if not _is_known(target):
        raise ValueError(f"slice_interval must be > 0 mm, got {target}")
    if mode not in get_args(ResampleMode):
        raise ValueError(f"interpolate must be one of {get_args(ResampleMode)}, got {mode!r}")


def window_to_uint8(hu: NDArray[np.generic], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Map a window in HU linearly to 0..255, rounded, clipping beyond it.

    Args:
        hu: In HU, any shape.
        window: Lower and upper end in HU.

    Raises:
        ValueError: If the window is empty or upside down.
    """
    low, high = window
    if not low < high:
        raise ValueError(f"window must be (low, high) in HU with low < high, got {window}")
    gray = (np.asarray(hu, np.float32) - low) * (255.0 / (high - low))
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def load_volume(
    image_root: str | os.PathLike[str],
    series: str,
    key_slice: int,
    offsets: NDArray[np.float64],
    size: tuple[int, int] | None = None,
    skip_bad_neighbors: bool = False,
    legacy: bool = False,
    packed: str | os.PathLike[str] | None = None,
) -> Volume:
    """Load a stack of slices around the key slice; each is decoded once.

    Args:
        image_root: Folder of the series folders.
        series: The series, such as ``000001_01_01``.
        key_slice: Number of the key slice.
        offsets: ``(D,)`` of :func:`resample_positions`.
        size: ``(height, width)`` in px that slices must have; None: that of the key slice.
        skip_bad_neighbors: Whether an unreadable neighbor counts as one that is not stored.
        legacy: Use its weights; what is not stored is the next slice towards the key slice.
        packed: Folder of a packed cache to take slices from; None takes their files.

    Returns:
        ``(H, W, D)`` float32 in HU, top to bottom as stored. It is a view of ``(D, H, W)``:
        whole slices lie in memory one after another, as networks take them.

    Raises:
        SliceError: As :func:`read_slice`. A missing neighbor is no error.
        PackError: If the cache is incomplete, damaged, or older than the files.
    """
    above, weights = interpolation_weights(offsets, legacy)
    wanted = {*above.tolist(), *(above[weights > 0] + 1).tolist()}
    pack = None
    if packed is not None:
        pack = PackedSeries(packed, series)
        pack.check_source(image_root, key_slice)
        pack.prefetch(key_slice + delta for delta in (0, *wanted))
    stored = _StoredSlices(image_root, series, key_slice, size, skip_bad_neighbors, legacy, pack)
    planes: Volume = empty_stack((len(offsets), *stored.size), np.float32)
    for plane, index, weight in zip(planes, above.tolist(), weights.tolist(), strict=True):
        if weight > 0:
            upper, lower = (np.asarray(stored[i], np.float32) for i in (index, index + 1))
            cv2.addWeighted(upper, 1 - weight, lower, weight, 0, dst=plane)
        else:
            plane[:] = stored[index]
    return planes.transpose(1, 2, 0)


class _StoredSlices:
    """Slices by their distance from the key slice, each decoded once; arguments as above."""

    def __init__(
        self,
        image_root: str | os.PathLike[str],
        series: str,
        key_slice: int,
        size: tuple[int, int] | None,
        skip_bad: bool,
        inward_only: bool,
        pack: PackedSeries | None,
    ) -> None:
        self.image_root, self.series, self.key_slice = image_root, series, key_slice
        self.skip_bad, self.inward_only, self.pack = skip_bad, inward_only, pack
        self.key: Slice
        if pack is None:
            self.key = read_hu(key_slice_path(image_root, series, key_slice), size)
        else:
            self.key = pack.read_key(key_slice, size)
        self.size = (self.key.shape[0], self.key.shape[1])
        self.cache: dict[int, Slice | None] = {0: self.key}

    def __getitem__(self, delta: int) -> Slice:
        """The slice at ``delta``, or the nearest stored one, ties towards the key slice."""
        outward = 1 if delta > 0 else -1
        for distance in range(abs(delta)):
            steps = (distance,) if self.inward_only else dict.fromkeys((distance, -distance))
            for near in (delta - outward * step for step in steps):
                if near not in self.cache:
                    self.cache[near] = self._read(self.key_slice + near)
                plane = self.cache[near]
                if plane is not None:
                    return plane
        return self.key

    def _read(self, number: int) -> Slice | None:
        try:
            if self.pack is not None:
                return self.pack.read(number, self.size)
            path = key_slice_path(self.image_root, self.series, number)
            return read_hu(path, self.size) if path.is_file() else None
        except SliceError:
            if self.skip_bad:
                return None
            raise


def interpolation_weights(
    offsets: NDArray[np.float64], legacy: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Split offsets for linear interpolation.

    Args:
        offsets: ``(D,)`` of :func:`resample_positions`.
        legacy: Weigh the two slices about every offset as those about the first neighbor are
            weighed: wrong from the second neighbor on.

    Returns:
        ``(D,)`` index of the stored slice at or above (towards the top) each offset, and ``(D,)``
        weight in [0, 1) of the next one below it; the former weighs ``1 - weight``.
    """
    above = np.floor(offsets)
    weights = offsets - above
    if legacy and len(offsets) > 1:
        first = weights[len(offsets) // 2 + 1]
        weights = np.where(weights > 0, np.where(offsets > 0, first, 1 - first), 0.0)
    return above.astype(np.int64), weights


def _published_step(interval: float, target: float, mode: ResampleMode) -> float:
    """Distance of the slices of the published loader, counted in stored ones."""
    if interval == 0:
        raise ValueError(f"slice_interval must not be 0 mm with legacy=True, got {interval}")
    if not interval > 0:
        return 0.0
    return max(1.0, target / interval) if mode == "thin" else target / interval


def _is_known(interval: float) -> bool:
    return math.isfinite(interval) and interval > 0
