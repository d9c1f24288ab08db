"""Whether an array of voxels can be a CT scan in HU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import ScanError

#: Even a crop from inside the body has fat's, gut's or lung's voxels below it.
AIR_BELOW = -200
#: What lies outside the field of view is often stored far below air.
PADDING_BELOW = -2000
#: A label map, or a picture of 8 bit, has no more than this.
MAX_LABEL = 255
#: What a CT is where scanners store it without their rescaling.
RAW_OFFSET = 1024
MIN_SLICES = 2
#: How far the cosines of axes may be off right angles.
MAX_SHEAR = 1e-3
OVERRIDE = "if it is a CT in HU all the same, read it with check_hu=False (--no-hu-check)"
_INT16 = np.iinfo(np.int16)


def check_geometry(geometry: Geometry) -> None:
    """Refuse voxels without an extent or a place.

    Raises:
        ScanError: The spacing is not > 0 mm, a position is not finite, axes are not at right
            angles, or there is one slice only.
    """
    spacing = ", ".join(f"{value:g}" for value in geometry.spacing)
    if not (np.isfinite(geometry.spacing).all() and (geometry.spacing > 0).all()):
        raise ScanError(f"spacing must be > 0 mm along x, y and z, got {spacing}; mend the header")
    if not np.isfinite(geometry.origin).all():
        raise ScanError(f"the origin must be finite, got {geometry.origin.tolist()}")
    gram = geometry.direction.T @ geometry.direction
    if not np.allclose(gram, np.eye(3), rtol=0, atol=MAX_SHEAR):
        raise ScanError(
            "its axes are not at right angles (sheared), or not of length 1; resample it to axes "
            "that are"
        )
    check_slice_count(geometry.size[2])


def check_slice_count(slices: int) -> None:
    """Refuse less than two slices.

    Raises:
        ScanError: There are less.
    """
    if slices < MIN_SLICES:
        raise ScanError(
            f"got {slices} slice, a scan needs at least {MIN_SLICES}; give the folder or all files "
            "of its series"
        )


def check_hu(hu: NDArray[np.int16] | NDArray[np.float32]) -> None:
    """Refuse what cannot be HU: masks, pictures, MR, values without the rescaling of the scanner.

    Args:
        hu: ``(D, H, W)``.

    Raises:
        ScanError: All voxels are equal, or none is as dark as air, gut or lung.
    """
    low, high = float(hu.min()), float(hu.max())
    if low == high:
        raise ScanError(f"all voxels are {low:g}: there is nothing in it")
    if np.any((hu < AIR_BELOW) & (hu >= PADDING_BELOW)):
        return
    span = f"its values go from {low:g} to {high:g}"
    whole = hu.dtype.kind == "i" or bool(np.all(hu == np.rint(hu)))
    if whole and low >= 0 and high <= MAX_LABEL:
        raise ScanError(
            f"it looks like a mask, a label map or an 8-bit picture: {span}, and air in HU is "
            f"about -1000; give the scan itself ({OVERRIDE})"
        )
    raw = low >= 0 and high > RAW_OFFSET
    hint = f"raw values without rescaling (HU + {RAW_OFFSET}?), MR" if raw else "MR, PET, scaled"
    raise ScanError(
        f"it is not in HU: {span}, none is as dark as air (about -1000): {hint}? "
        f"Convert it to HU; {OVERRIDE}"
    )


def check_finite(values: NDArray[np.floating]) -> None:
    """Refuse NaN and infinities.

    Raises:
        ScanError: There are some; it says how many.
    """
    for what, found in (("NaN", np.isnan(values)), ("infinite", np.isinf(values))):
        if count := int(np.count_nonzero(found)):
            raise ScanError(
                f"{count} of {values.size} voxels are {what}; fill them (with -1024, air, where "
                "they are outside the field of view)"
            )


def to_int16(values: NDArray[np.generic]) -> NDArray[np.int16] | NDArray[np.float32]:
    """Voxels as int16 where they are whole numbers, else float32; a copy only where needed.

    Beyond the range of int16, which no tissue or metal in HU reaches, it saturates.
    """
    if values.dtype == np.int16:
        return values.view(np.int16)
    # Slice by slice: a second volume in float64 may be more than there is memory.
    if values.dtype.kind == "f" and any(np.any(plane != np.rint(plane)) for plane in values):
        return values.astype(np.float32, copy=False)
    out = np.empty(values.shape, np.int16)
    for plane, target in zip(values, out, strict=True):
        target[...] = np.clip(plane.astype(np.float64), _INT16.min, _INT16.max)
    return out
