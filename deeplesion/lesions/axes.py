"""Long and short axis of a lesion in a slice, as RECIST and DeepLesion measure them.

*Long axis*: the longest distance of two points of the outline (the maximum Feret diameter). *Short
axis*: the longest segment perpendicular to it within the convex hull.

The outline of pixels is where conventions differ. Between the outer corners of pixels, a disc comes
out 1.0 to 1.4 pixels too long, for of all directions the one is taken in which corners stick out
most; between the centers of pixels, a narrow lesion comes out a pixel too short and one of a single
pixel has no size. Here each pixel counts as an ellipse half as wide and high as itself about its
center: discs and ellipses from 3 pixels on come out within half a pixel (in the mean of many
positions and directions; that is what the tests hold), a row of n pixels has n - 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplesion.evaluation.overlaps import PIXEL, Floats

#: Width of what a pixel counts as, in pixels.
PIXEL_PART = 0.5
_CORNERS = 16
# Distances are compared after rounding, so that symmetric shapes have the same axes everywhere.
_DECIMALS = 6


class Segment(NamedTuple):
    """A measured distance in a slice.

    Attributes:
        mm: Its length.
        ends: ``(2, 2)`` x, y in px of its ends: that of the lower x (then y) first.
    """

    mm: float
    ends: Floats


class Axes(NamedTuple):
    """Long axis, and short axis perpendicular to it in mm (in px only if pixels are square)."""

    long: Segment
    short: Segment


def axes_of_mask(pixels: NDArray[np.bool_], spacing: ArrayLike) -> Axes:
    """Measure the axes of a mask; holes make no difference, several components count as one.

    Args:
        pixels: ``(h, w)``, at least one of them set.
        spacing: ``(2,)`` width and height of a pixel in mm.

    Returns:
        The axes; ends are in px of ``pixels``, in which (0, 0) is the center of the first.

    Raises:
        ValueError: If no pixel is set.
    """
    if not pixels.any():
        raise ValueError("pixels must have at least one that is set")
    step = np.asarray(spacing, np.float64)
    hull = _hull(pixels) * step
    gaps = np.linalg.norm(hull[:, None] - hull[None], axis=2).round(_DECIMALS)
    first, second = np.divmod(int(gaps.argmax()), len(hull))
    long = hull[[first, second]]
    return Axes(_segment(long, step), _segment(_perpendicular(hull, long), step))


def axes_of_box(box: ArrayLike, spacing: ArrayLike) -> Axes:
    """Axes of the ellipse in a box, widths counted from edge to edge of its pixels.

    Args:
        box: ``(4,)`` x1, y1, x2, y2 in px, from the center of the first to that of the last pixel.
        spacing: ``(2,)`` width and height of a pixel in mm.

    Returns:
        The axes; of a square, the long one is that along x.
    """
    corners = np.asarray(box, np.float64).reshape(2, 2)
    step = np.asarray(spacing, np.float64)
    center, half = corners.mean(axis=0), (corners[1] - corners[0] + PIXEL) / 2
    along_x, along_y = (
        _segment(np.stack([center - part, center + part]) * step, step)
        for part in (half * [1, 0], half * [0, 1])
    )
    return Axes(along_x, along_y) if along_x.mm >= along_y.mm else Axes(along_y, along_x)


def _hull(pixels: NDArray[np.bool_]) -> Floats:
    """``(n, 2)`` corners of the convex hull in px, every pixel as a 16-gon."""
    rows = np.flatnonzero(pixels.any(axis=1))
    left = pixels[rows].argmax(axis=1)
    right = pixels.shape[1] - 1 - pixels[rows][:, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([left, rows], 1), np.stack([right, rows], 1)])
    centers = cv2.convexHull(ends.astype(np.int32)).reshape(-1, 1, 2)
    angles = np.arange(_CORNERS) * 2 * np.pi / _CORNERS
    outline = PIXEL_PART / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = (centers + outline).reshape(-1, 2)
    corners = cv2.convexHull(points.astype(np.float32), returnPoints=False)
    hull: Floats = points[corners.ravel()]
    return hull


def _perpendicular(hull: Floats, long: Floats) -> Floats:
    """``(2, 2)`` the longest segment within a hull that is perpendicular to a segment.

    The length of such a segment is a concave function of its place, linear between the corners of
    the hull, and so is greatest at a corner; where it is greatest at several, between them.
    """
    along = (long[1] - long[0]) / np.linalg.norm(long[1] - long[0])
    frame = np.stack([along, [-along[1], along[0]]])
    turned = hull @ frame.T
    low, high = _span(turned, turned[:, 0])
    lengths = (high - low).round(_DECIMALS)
    longest = turned[lengths == lengths.max(), 0]
    place = (longest.min() + longest.max()) / 2
    low, high = _span(turned, np.array([place]))
    ends: Floats = np.array([[place, low[0]], [place, high[0]]]) @ frame
    return ends


def _span(hull: Floats, places: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest v ``(k,)`` of a hull ``(n, 2)`` of u, v where u is ``places`` ``(k,)``."""
    start, stop = hull, np.roll(hull, -1, axis=0)
    u, run = places[:, None] - start[:, 0], stop[:, 0] - start[:, 0]
    share = u / np.where(run == 0, 1, run)
    v = start[:, 1] + share * (stop[:, 1] - start[:, 1])
    outside = (share < 0) | (share > 1) | ((run == 0) & (u != 0))
    return np.where(outside, np.inf, v).min(axis=1), np.where(outside, -np.inf, v).max(axis=1)


def _segment(ends_mm: Floats, step: Floats) -> Segment:
    ends = ends_mm / step
    first, second = np.lexsort(ends.T[::-1])
    return Segment(float(np.linalg.norm(ends_mm[1] - ends_mm[0])), ends[[first, second]])
