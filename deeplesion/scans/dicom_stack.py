"""Slices of a series, sorted along their normal and put on a regular grid, or refused."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans import checks
from deeplesion.scans.dicom_checks import axes_of, check_alike, check_each, normal_of
from deeplesion.scans.dicom_headers import SliceHeader
from deeplesion.scans.dicom_tags import PHASES
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.orientation import Turn, check_upright, plane_of
from deeplesion.scans.scan import ScanError

#: Slices nearer than this are at one position.
SAME_POSITION_MM = 0.01
#: How far positions may be off a regular grid, in slice intervals.
UNEVEN = 0.1
#: Widest gap between neighbors that is filled by interpolation.
MAX_GAP_MM = 10.0
#: Most slices that are filled in, as a part of all; one always may.
MAX_FILLED = 0.1
#: Displacement of slices off their normal that is a tilted gantry.
MAX_TILT_DEGREES = 0.5
MAX_SHIFT_MM = 1.0
#: A part of a series with several slices at one position must have this much of its positions.
MIN_PART = 0.5

SamePixels = Callable[[SliceHeader, SliceHeader], bool]


@dataclass(frozen=True)
class Stack:
    """Slices on a regular grid.

    Attributes:
        slices: In ascending position along the normal.
        index: ``(N,)`` place of each slice in the grid; the places between are to be filled.
        geometry: Of the grid.
        warnings: What was mended.
    """

    slices: tuple[SliceHeader, ...]
    index: NDArray[np.int64]
    geometry: Geometry
    warnings: tuple[str, ...]


def build_stack(slices: Sequence[SliceHeader], same_pixels: SamePixels | None = None) -> Stack:
    """Sort the slices of one series by position and find the grid that they are on.

    Slices at one position are dropped but the first if their pixels are the same. If they differ,
    the series is split by acquisition, time, kernel, thickness or image type, whichever leaves one
    slice at each position, and the part of most slices is taken. Few missing slices are left to be
    interpolated.

    Args:
        slices: Of a CT.
        same_pixels: Compares the pixels of two; None takes slices at one position for the same.

    Raises:
        ScanError: Their geometry is missing, mixed, tilted, not axial or not regular.
    """
    check_each(slices)
    check_alike(slices)
    warnings: list[str] = []
    # One normal for all: headers round each slice's, and a meter away that is half a millimeter.
    normal = normal_of(slices[0])
    ordered = sorted(slices, key=lambda item: (_along(item, normal), item.label))
    ordered = _without_doubles(ordered, normal, same_pixels, warnings)
    checks.check_slice_count(len(ordered))
    positions = np.array([item.position for item in ordered], np.float64)
    _check_shift(positions, normal)
    index, interval = _grid(positions @ normal, warnings)
    geometry = _geometry(ordered[0], interval, int(index[-1]) + 1)
    checks.check_geometry(geometry)
    _check_plane(geometry)
    return Stack(tuple(ordered), index, geometry, tuple(warnings))


def count_positions(slices: Sequence[SliceHeader]) -> int:
    """How many slices there are at different positions; all, where positions are missing."""
    try:
        check_each(slices)
    except ScanError:
        return len(slices)
    along = np.sort([_along(item, normal_of(slices[0])) for item in slices])
    return 1 + int(np.count_nonzero(np.diff(along) >= SAME_POSITION_MM))


def _along(item: SliceHeader, normal: NDArray[np.float64]) -> float:
    return float(np.array(item.position) @ normal)


def _without_doubles(
    ordered: list[SliceHeader],
    normal: NDArray[np.float64],
    same_pixels: SamePixels | None,
    warnings: list[str],
) -> list[SliceHeader]:
    """One slice at each position."""
    kept: list[SliceHeader] = []
    dropped: list[SliceHeader] = []
    for item in ordered:
        if not kept or _along(item, normal) - _along(kept[-1], normal) >= SAME_POSITION_MM:
            kept.append(item)
        elif same_pixels is None or same_pixels(kept[-1], item):
            dropped.append(item)
        else:
            part = _one_phase(ordered, (kept[-1], item), warnings)
            return _without_doubles(part, normal, same_pixels, warnings)
    if dropped:
        warnings.append(f"slices that were there twice were dropped: {len(dropped)}")
    return kept


def _one_phase(
    ordered: list[SliceHeader],
    example: tuple[SliceHeader, SliceHeader],
    warnings: list[str],
) -> list[SliceHeader]:
    """The largest part of a series that holds several acquisitions or reconstructions."""
    for name in PHASES:
        if example[0].phase.get(name) == example[1].phase.get(name):
            continue
        parts: dict[str, list[SliceHeader]] = {}
        for item in ordered:
            parts.setdefault(item.phase.get(name, ""), []).append(item)
        value, part = max(parts.items(), key=lambda pair: len(pair[1]))
        if len(part) < MIN_PART * count_positions(ordered):
            continue
        others = ", ".join(
            f"{key or 'none'} ({len(p)})" for key, p in parts.items() if key != value
        )
        warnings.append(
            f"the series holds several slices at one position; those of {name} {value or 'none'} "
            f"({len(part)}) were taken, not those of {others}"
        )
        return part
    raise ScanError(
        f"different slices at one position ({example[0].label} and {example[1].label}): several "
        "acquisitions or reconstructions in one series; give the files of one"
    )


def _check_shift(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    """Refuse slices that are displaced off their normal."""
    steps = positions - positions[0]
    along = steps @ normal
    aside = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    angle = math.degrees(math.atan2(aside[-1], along[-1]))
    if angle > MAX_TILT_DEGREES:
        raise ScanError(
            f"the gantry was tilted by {angle:.1f} degrees: slices do not lie one above the other; "
            "resample the series to a rectangular grid (e.g. dcm2niix does), and give that"
        )
    if aside.max() > MAX_SHIFT_MM:
        raise ScanError(
            f"slices are shifted in their plane by up to {aside.max():.1f} mm; give the files of "
            "one reconstruction"
        )


def _grid(along: NDArray[np.float64], warnings: list[str]) -> tuple[NDArray[np.int64], float]:
    """Place of each slice in a regular grid, and the grid's interval in mm."""
    steps = np.diff(along)
    interval = float(np.percentile(steps, 50, method="lower"))
    counts = np.maximum(np.rint(steps / interval), 1)
    found = ", ".join(f"{n} x {step:g}" for step, n in Counter(steps.round(2)).most_common(4))
    mixed = ScanError(
        f"mixed distances of slices, or too many are missing ({found} mm); give the files of one "
        "part, or resample the series to one distance"
    )
    if np.any(np.abs(steps / interval - counts) > UNEVEN):
        raise mixed
    index = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    missing = int(index[-1]) + 1 - len(along)
    widest = float(steps[counts > 1].max(initial=0.0))
    if widest > MAX_GAP_MM:
        raise ScanError(
            f"slices are missing: a gap of {widest:g} mm where they are {interval:g} mm apart (at "
            f"most {MAX_GAP_MM:g} mm are filled); copy the series again, or give the files of one "
            "side of the gap"
        )
    if missing > max(1, MAX_FILLED * (index[-1] + 1)):
        raise mixed
    interval = float(along[-1] - along[0]) / float(index[-1])
    if np.any(np.abs(along - along[0] - index * interval) > 2 * UNEVEN * interval):
        raise mixed
    if missing:
        warnings.append(
            f"slices that are missing were interpolated linearly: {missing} of {index[-1] + 1}"
        )
    return index, interval


def _geometry(first: SliceHeader, interval: float, slices: int) -> Geometry:
    rows, columns = axes_of(first)
    x = rows / np.linalg.norm(rows)
    normal = np.cross(rows, columns) / np.linalg.norm(np.cross(rows, columns))
    between_rows, between_columns = first.spacing or (math.nan, math.nan)
    return Geometry(
        origin=np.array(first.position, np.float64),
        spacing=np.array([between_columns, between_rows, interval]),
        # Headers round them; ITK wants right angles.
        direction=np.stack([x, np.cross(normal, x), normal], axis=1),
        size=(*first.size, slices),
    )


def _check_plane(geometry: Geometry) -> None:
    """Refuse slices that are not axial: turned they would be, but with what a reformat blurs."""
    plane = plane_of(geometry.direction[:, 2])
    if plane != "axial":
        normal = ", ".join(f"{value:.2f}" for value in geometry.direction[:, 2])
        raise ScanError(
            f"the slices are {plane} (their normal is {normal} in LPS), axial ones are wanted; "
            "give the axial reconstruction"
        )
    check_upright(Turn.of(geometry).geometry(geometry))
