"""Scans for tests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from deeplesion.scans import Geometry, ScanError, read_scan
from deeplesion.scans.dicom_headers import SliceHeader

#: All ways to swap and flip axes: 48.
AXIS_ORDERS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def turned_geometry(
    order: tuple[int, ...],
    signs: tuple[int, ...],
    size: tuple[int, int, int] = (5, 6, 7),
    spacing: tuple[float, float, float] = (0.75, 1.0, 1.25),
    origin: tuple[float, float, float] = (-12.5, 34.25, -56.0),
) -> Geometry:
    """Geometry whose axes x, y and z run along the patient's axes ``order``, with ``signs``."""
    direction = np.zeros((3, 3))
    for axis, (patient_axis, sign) in enumerate(zip(order, signs, strict=True)):
        direction[patient_axis, axis] = sign
    return Geometry(np.array(origin), np.array(spacing), direction, size)


def image_of(array: NDArray[Any], geometry: Geometry) -> Any:
    """A SimpleITK image of an array ``(z, y, x)``."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetOrigin(geometry.origin.tolist())
    image.SetSpacing(geometry.spacing.tolist())
    image.SetDirection(geometry.direction.ravel().tolist())
    return image


def write_image(path: Path, array: NDArray[Any], geometry: Geometry | None = None) -> Path:
    """Write an array ``(z, y, x)`` by SimpleITK; without ``geometry`` in ITK's own, 1 mm."""
    image = SimpleITK.GetImageFromArray(array) if geometry is None else image_of(array, geometry)
    SimpleITK.WriteImage(image, str(path))
    return path


def header(z: float, name: str = "", **changes: Any) -> SliceHeader:
    """An axial slice at a height in mm."""
    known = SliceHeader(
        path=Path(name or f"slice{z:g}"),
        frame=None,
        uid="1.2.3",
        number=1,
        description="",
        modality="CT",
        kind="",
        size=(8, 6),
        position=(-10.0, -20.0, z),
        orientation=(1.0, 0, 0, 0, 1.0, 0),
        spacing=(0.75, 0.5),
        thickness=1.0,
    )
    return replace(known, **changes)


def complaint(source: Any, **options: Any) -> str:
    """What :func:`read_scan` says of a scan that it refuses."""
    try:
        scan = read_scan(source, **options)
    except ScanError as error:
        return str(error)
    raise AssertionError(f"{source} was read: {scan.hu.shape}")
