"""Which slices of a scan the stacks of its key slices are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.ct import interpolation_weights
from deeplesion.engine.config import UsageError
from deeplesion.scans.scan import Scan


class Plane(NamedTuple):
    """A slice, or what is interpolated between two.

    Attributes:
        above: Index of the slice towards the top.
        below: Index of the next one; the same where nothing is interpolated.
        weight: Of ``below``, in [0, 1); ``above`` weighs the rest.
    """

    above: int
    below: int
    weight: float


def stack_planes(
    key_slice: int, depth: int, offsets: NDArray[np.float64], legacy: bool = False
) -> tuple[Plane, ...]:
    """The planes of a key slice's stack; beyond the ends of the scan its end slices are repeated.

    Args:
        key_slice: Index of the slice.
        depth: Number of slices of the scan.
        offsets: ``(D,)`` of :func:`deeplesion.datasets.ct.resample_positions`.
        legacy: As there.

    Returns:
        D planes, top to bottom. Equal ones of different stacks are equal tuples.
    """
    planes = []
    for step, weight in zip(*interpolation_weights(offsets, legacy), strict=True):
        above, below = np.clip((key_slice + step, key_slice + step + 1), 0, depth - 1).tolist()
        mixed = weight > 0 and above != below
        planes.append(Plane(above, below, float(weight)) if mixed else Plane(above, above, 0.0))
    return tuple(planes)


def plane_hu(hu: NDArray[np.generic], plane: Plane) -> NDArray[np.float32]:
    """Take a plane out of a scan.

    Args:
        hu: ``(D, H, W)`` in HU.
        plane: Which.

    Returns:
        ``(H, W)`` float32 in HU, as :func:`deeplesion.datasets.ct.load_volume` computes it; a copy.
    """
    # Copies, for steps may work in place and a scan may be float32 itself.
    above = np.array(hu[plane.above], np.float32, order="C")
    if not plane.weight:
        return above
    below = np.array(hu[plane.below], np.float32, order="C")
    mixed: NDArray[np.float32] = cv2.addWeighted(above, 1 - plane.weight, below, plane.weight, 0)
    return mixed


def choose_key_slices(
    scan: Scan,
    slices: slice | Sequence[int] | None = None,
    stride_mm: float | None = None,
) -> list[int]:
    """Indices of the slices to look at, ascending.

    Args:
        scan: The scan.
        slices: Which of them: Python's ``slice`` (whose ends must lie in the scan), or indices.
        stride_mm: Look at a slice every so many mm, rounded to whole slices, at least at every
            one; None: at all. Not with indices.

    Raises:
        UsageError: There are no such slices, or the stride is not > 0.
    """
    depth, step = len(scan.hu), 1
    if stride_mm is not None:
        if not 0 < stride_mm < np.inf:
            raise UsageError(f"stride must be > 0 mm, got {stride_mm}")
        step = max(1, round(stride_mm / scan.slice_interval))
    if slices is None:
        return list(range(0, depth, step))
    if isinstance(slices, slice):
        return _in_range(slices, depth)[::step]
    if stride_mm is not None:
        raise UsageError("a stride goes with a range of slices, not with single ones")
    chosen = sorted({int(index) for index in slices})
    if not chosen or chosen[0] < 0 or chosen[-1] >= depth:
        raise UsageError(f"slices must be within 0 to {depth - 1} of {scan.name}, got {chosen}")
    return chosen


def _in_range(slices: slice, depth: int) -> list[int]:
    """Indices of a slice object none of whose ends is beyond the scan."""
    ends = [end for end in (slices.start, slices.stop) if end is not None]
    chosen = list(range(depth))[slices]
    if not chosen or any(not -depth <= end <= depth for end in ends):
        wanted = ":".join("" if end is None else str(end) for end in (slices.start, slices.stop))
        raise UsageError(
            f"slices {wanted} are out of range: the scan has {depth} slices, 0:{depth}"
        )
    return sorted(chosen)
