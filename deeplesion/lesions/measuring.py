"""Size and density of lesions, from their masks where there are any and else from their boxes.

* *Which slice.* Axes, area and density are those of the slice in which the long axis is longest,
  as RECIST asks for; of equal ones that of the higher score, then the upper. It need not be the key
  slice, which is that of the highest score.
* *Which pixels.* The largest component of the mask (8 neighbors; of equal ones the uppermost, then
  leftmost). Holes stay holes: they count neither for area and volume nor for density, and make no
  difference to the axes. A slice whose mask is empty counts as one without a box. If all are empty,
  or the detector gives none, the ellipse in each box is measured instead: its axes and area as of
  the true ellipse, its density over the pixels whose centers lie in it.
* *Axes*: see :mod:`deeplesion.lesions.axes`.
* *Area*: pixels times the size of a pixel.
* *Volume*: areas times the distance of key slices; where key slices are missing between the first
  and the last, areas are interpolated. The distance counts, not the thickness that the header
  tells: thick slices that overlap would count twice.
* *Density*: mean, standard deviation (of the population), least and greatest HU of the pixels.

The boxes of DeepLesion were drawn 5 px wider than the RECIST end points on each side, and detectors
that were trained on them draw theirs so: sizes from boxes come out larger than those from masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplesion.evaluation.overlaps import PIXEL, Floats
from deeplesion.lesions.axes import Axes, Segment, axes_of_box, axes_of_mask
from deeplesion.lesions.lesion import Lesion, SliceMask

Source = Literal["mask", "box"]
Voxels = NDArray[np.int16] | NDArray[np.float32]


class Density(NamedTuple):
    """HU of a lesion's pixels; NaN where it has none.

    Attributes:
        mean: Mean.
        sd: Standard deviation of the population.
        min: Least.
        max: Greatest.
    """

    mean: float
    sd: float
    min: float
    max: float


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured of a lesion.

    Attributes:
        slice: Index of the slice that axes, area and density are of.
        long: Long axis; ends in px of the slice.
        short: Longest perpendicular to it.
        area: In mm2.
        volume: In mm3.
        hu: Density.
        source: ``mask``, or ``box`` where there was none.
        region: The pixels that were measured; None where no pixel's center lies in the ellipse.
    """

    slice: int
    long: Segment
    short: Segment
    area: float
    volume: float
    hu: Density
    source: Source
    region: SliceMask | None


def measure_lesion(lesion: Lesion, hu: Voxels, spacing: ArrayLike, stride: int = 1) -> Measurement:
    """Measure a lesion as the module's text tells.

    Args:
        lesion: Masks lie within the slices.
        hu: ``(D, H, W)`` in HU.
        spacing: ``(3,)`` distance of voxels along x, y and z in mm.
        stride: Distance of key slices, in slices.

    Returns:
        Sizes in mm, ends in px.

    Raises:
        ValueError: If a slice or mask lies outside of the scan, or ``stride`` is below 1.
    """
    step = np.asarray(spacing, np.float64)
    if stride < 1:
        raise ValueError(f"stride must be at least 1 slice, got {stride}")
    regions, source = lesion_regions(lesion, hu.shape)
    if source == "mask":
        there = [index for index, region in enumerate(regions) if region is not None]
        found = [region for region in regions if region is not None]
        axes = [_axes(region, step[:2]) for region in found]
        areas = [float(region.pixels.sum() * step[0] * step[1]) for region in found]
    else:
        there = list(range(len(lesion.slices)))
        axes = [axes_of_box(box, step[:2]) for box in lesion.boxes]
        areas = [math.pi / 4 * each.long.mm * each.short.mm for each in axes]
    slices = lesion.slices[there]
    longest = np.array([each.long.mm for each in axes]).round(6)
    best = int(np.lexsort((slices, -lesion.scores[there], -longest))[0])
    region = regions[there[best]]
    return Measurement(
        slice=int(slices[best]),
        long=axes[best].long,
        short=axes[best].short,
        area=areas[best],
        volume=_volume(slices * step[2], np.array(areas), stride * step[2]),
        hu=_density(hu[slices[best]], region),
        source=source,
        region=region,
    )


def lesion_regions(lesion: Lesion, shape: tuple[int, ...]) -> tuple[list[SliceMask | None], Source]:
    """The pixels of a lesion that count, slice by slice.

    Args:
        lesion: Masks lie within the slices.
        shape: ``(D, H, W)`` of the scan.

    Returns:
        For each of its slices the largest component of the mask, or, if no mask has a pixel, the
        ellipse in the box; None where that has no pixel. And which of the two.

    Raises:
        ValueError: If a slice or mask lies outside of the scan.
    """
    _check_inside(lesion, shape)
    regions = [largest_component(mask) for mask in lesion.masks]
    if any(region is not None for region in regions):
        return regions, "mask"
    return [ellipse_in_box(box, shape[1:]) for box in lesion.boxes], "box"


def largest_component(mask: SliceMask) -> SliceMask | None:
    """The largest component of a mask (8 neighbors), cropped to it; None if the mask is empty."""
    pixels = np.ascontiguousarray(mask.pixels, np.uint8)
    if not pixels.any():
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    # In the order of pixels, for that of OpenCV's labels is not documented.
    tops = [
        np.flatnonzero(labels == 1 + index)[0] for index in np.flatnonzero(sizes == sizes.max())
    ]
    label = int(labels.ravel()[min(tops)])
    x, y, width, height = (
        int(stats[label, field])
        for field in (cv2.CC_STAT_LEFT, cv2.CC_STAT_TOP, cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)
    )
    return SliceMask(mask.x + x, mask.y + y, labels[y : y + height, x : x + width] == label)


def ellipse_in_box(box: ArrayLike, shape: tuple[int, ...]) -> SliceMask | None:
    """The pixels whose centers lie in the ellipse that fills a box.

    Args:
        box: ``(4,)`` x1, y1, x2, y2 in px, from the center of the first to that of the last pixel.
        shape: Height and width of the slice; what lies outside is left out.

    Returns:
        The pixels; None if there are none.
    """
    x1, y1, x2, y2 = np.asarray(box, np.float64).tolist()
    height, width = shape
    columns, u = _across(x1, x2, width)
    rows, v = _across(y1, y2, height)
    pixels = u**2 + v[:, None] ** 2 <= 1
    return SliceMask(int(columns[0]), int(rows[0]), pixels) if pixels.any() else None


def _across(first: float, last: float, size: int) -> tuple[NDArray[np.int64], Floats]:
    """Pixels of an axis from edge to edge of a box, and where they are in it, from -1 to 1."""
    center, half = (first + last) / 2, (last - first + PIXEL) / 2
    low, high = math.ceil(center - half), math.floor(center + half)
    pixels = np.arange(max(low, 0), min(high, size - 1) + 1, dtype=np.int64)
    return pixels, np.asarray((pixels - center) / half, np.float64)


def _axes(region: SliceMask, step: Floats) -> Axes:
    offset = np.array([region.x, region.y])
    axes = axes_of_mask(region.pixels, step)
    return Axes(*(Segment(axis.mm, axis.ends + offset) for axis in axes))


def _volume(positions: Floats, areas: Floats, interval: float) -> float:
    """Areas at positions, linear between them, and half an interval more at both ends."""
    between = ((areas[1:] + areas[:-1]) / 2 * np.diff(positions)).sum()
    return float(between + (areas[0] + areas[-1]) / 2 * interval)


def _density(hu: NDArray[np.generic], region: SliceMask | None) -> Density:
    if region is None:
        return Density(*[float("nan")] * 4)
    height, width = region.pixels.shape
    crop = hu[region.y : region.y + height, region.x : region.x + width]
    values = np.asarray(crop, np.float64)[region.pixels]
    return Density(*(float(f(values)) for f in (np.mean, np.std, np.min, np.max)))


def _check_inside(lesion: Lesion, shape: tuple[int, ...]) -> None:
    depth, height, width = shape
    where = f"lesion {lesion.number}"
    if lesion.slices[0] < 0 or lesion.slices[-1] >= depth:
        first, last = lesion.slices[[0, -1]].tolist()
        raise ValueError(f"{where} is on slices {first} to {last} of a scan of {depth}")
    for z, mask in zip(lesion.slices, lesion.masks, strict=False):
        rows, columns = mask.pixels.shape
        if min(mask.x, mask.y) < 0 or mask.x + columns > width or mask.y + rows > height:
            raise ValueError(
                f"{where}, slice {z}: a mask of {columns} x {rows} px at ({mask.x}, {mask.y}) does "
                f"not lie within the slice of {width} x {height} px"
            )
