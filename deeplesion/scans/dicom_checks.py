"""Whether the headers of slices have what is needed, and agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.dicom_headers import SliceHeader
from deeplesion.scans.orientation import plane_of
from deeplesion.scans.scan import ScanError

#: By how much orientation (cosines) and spacing (mm) may differ within a series.
SAME_COSINE = 1e-3
SAME_SPACING_MM = 1e-3
#: How far a header's two axes may be off unit length and right angles.
MAX_SKEW = 0.01
_HU_UNITS = ("", "HU", "US", "HU_MOD", "UNSPECIFIED")


def check_each(slices: Sequence[SliceHeader]) -> None:
    """Refuse slices whose header misses what is needed, or has what cannot be.

    Raises:
        ScanError: One does; it is named.
    """
    for item in slices:
        if item.problem:
            raise ScanError(item.problem)
        for keyword, value in (
            ("ImagePositionPatient", item.position),
            ("ImageOrientationPatient", item.orientation),
            ("PixelSpacing", item.spacing),
            ("Rows and Columns", item.size if min(item.size) > 0 else None),
        ):
            if value is None:
                raise ScanError(f"{item.label} has no {keyword}: its header is damaged or stripped")
            if not all(math.isfinite(number) for number in value):
                raise ScanError(f"{item.label}: {keyword} must be finite, got {value}")
        if item.spacing is None or not min(item.spacing) > 0:
            raise ScanError(f"{item.label}: PixelSpacing must be > 0 mm, got {item.spacing}")
        rows, columns = axes_of(item)
        skew = abs(rows @ rows - 1), abs(columns @ columns - 1), abs(rows @ columns)
        if max(skew) > MAX_SKEW:
            raise ScanError(
                f"{item.label}: ImageOrientationPatient must be two unit vectors at right angles, "
                f"got {item.orientation}"
            )
        if not (math.isfinite(item.slope) and item.slope != 0 and math.isfinite(item.intercept)):
            raise ScanError(
                f"{item.label}: RescaleSlope and RescaleIntercept must be finite, the "
                f"slope not 0, got {item.slope:g} and {item.intercept:g}"
            )
        if item.unit not in _HU_UNITS:
            raise ScanError(f"{item.label} is in {item.unit}, not in HU: give the CT itself")


def check_alike(slices: Sequence[SliceHeader]) -> None:
    """Refuse a series of mixed matrix sizes, orientations or pixel spacings.

    Raises:
        ScanError: It is; what differs is named.
    """
    sizes = Counter(item.size for item in slices)
    if len(sizes) > 1:
        found = ", ".join(f"{n} of {w} x {h}" for (w, h), n in sizes.most_common())
        raise ScanError(f"slices of mixed matrix sizes ({found} px); give the files of one size")
    first = slices[0]
    for item in slices[1:]:
        if not np.allclose(item.orientation or 0, first.orientation or 1, rtol=0, atol=SAME_COSINE):
            raise ScanError(
                f"slices of mixed orientations ({first.label} is {plane_name(first)}, {item.label} "
                f"{plane_name(item)}, or turned by some degrees); give the files of one orientation"
            )
        if not np.allclose(item.spacing or 0, first.spacing or 1, rtol=0, atol=SAME_SPACING_MM):
            raise ScanError(
                f"slices of mixed pixel spacing ({first.label}: {first.spacing} mm, {item.label}: "
                f"{item.spacing} mm); give the files of one reconstruction"
            )


def plane_name(item: SliceHeader) -> str:
    """``axial``, ``coronal``, ``sagittal``, ``oblique``; empty where the header does not say."""
    if item.orientation is None:
        return ""
    normal = normal_of(item)
    return plane_of(normal) if np.linalg.norm(normal) > 0 else ""


def axes_of(item: SliceHeader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors ``(3,)`` in LPS along a row and along a column of a slice."""
    cosines = np.array(item.orientation, np.float64)
    return cosines[:3], cosines[3:]


def normal_of(item: SliceHeader) -> NDArray[np.float64]:
    """Unit vector ``(3,)`` in LPS across a slice, to the side from which it is right-handed."""
    rows, columns = axes_of(item)
    return np.cross(rows, columns).astype(np.float64)
