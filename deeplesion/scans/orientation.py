"""Turning arrays into the orientation of DeepLesion's slices, by swaps and flips of axes alone.

The orientation wanted is ``LPI`` in the index directions of ITK: columns run to the patient's
left, rows to posterior, slices to inferior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import ScanError

#: Direction of columns, rows and slices of a turned scan, in LPS.
WANTED = np.diag([1.0, 1.0, -1.0])
#: Slices turned further than this out of the axial plane, or in it, are not what networks know.
MAX_OBLIQUE_DEGREES = 15.0
#: Slices this much further apart than pixels make a plane of acquisition.
_PLANE_RATIO = 1.5
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Turn:
    """How axes are swapped and flipped.

    Attributes:
        axes: Which of the stored axes (0 = x, 1 = y, 2 = z) becomes x, y and z.
        flips: Whether x, y and z then run the other way than stored.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, stored: Geometry) -> Turn:
        """The turn that brings a stored array as near to the wanted orientation as can be."""
        cosines = WANTED.T @ stored.direction
        axes = max(
            permutations(range(3)), key=lambda order: sum(abs(cosines[range(3), list(order)]))
        )
        first, second, third = axes
        flips = tuple(bool(cosines[axis, axes[axis]] < 0) for axis in range(3))
        return cls((first, second, third), (flips[0], flips[1], flips[2]))

    def geometry(self, stored: Geometry) -> Geometry:
        """Geometry of the turned array; every voxel stays where it is in the patient."""
        order = list(self.axes)
        size = np.array(stored.size)[order]
        signs = np.where(self.flips, -1.0, 1.0)
        first_voxel = np.zeros(3)
        first_voxel[order] = np.where(self.flips, size - 1, 0)
        return Geometry(
            origin=stored.to_patient(first_voxel),
            spacing=stored.spacing[order],
            direction=stored.direction[:, order] * signs + 0.0,  # no -0.0
            size=(int(size[0]), int(size[1]), int(size[2])),
        )

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A stored array ``(z, y, x)`` turned to ``(D, H, W)``; a view."""
        turned = array.transpose([2 - axis for axis in reversed(self.axes)])
        return turned[self._steps()]

    def undo(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """A turned array ``(D, H, W)`` as stored, ``(z, y, x)``; a view."""
        stored_to_turned = [2 - axis for axis in reversed(self.axes)]
        return array[self._steps()].transpose(np.argsort(stored_to_turned))

    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else None) for flip in reversed(self.flips))


def plane_of(normal: NDArray[np.float64]) -> str:
    """``axial``, ``coronal``, ``sagittal`` or ``oblique``, by the normal ``(3,)`` of slices."""
    axis = int(np.argmax(np.abs(normal)))
    angle = _degrees(abs(normal[axis]) / np.linalg.norm(normal))
    return _PLANES[axis] if angle <= MAX_OBLIQUE_DEGREES else "oblique"


def check_upright(turned: Geometry) -> None:
    """Refuse a scan whose turned axes are far from the patient's.

    Args:
        turned: Geometry of the turned array.

    Raises:
        ScanError: It is turned by more than :data:`MAX_OBLIQUE_DEGREES`, or its slices are coronal
            or sagittal ones.
    """
    cosines = np.sum(WANTED * turned.direction, axis=0)
    angle = max(_degrees(cosine) for cosine in cosines)
    if angle > MAX_OBLIQUE_DEGREES:
        raise ScanError(
            f"the scan is oblique, turned by {angle:.1f} degrees from the patient's axes (at most "
            f"{MAX_OBLIQUE_DEGREES:g} are taken); resample it to axial slices, or give the axial "
            "reconstruction"
        )
    thick = int(np.argmax(turned.spacing))
    others = np.delete(turned.spacing, thick)
    if thick != 2 and turned.spacing[thick] > _PLANE_RATIO * others.max():
        raise ScanError(
            f"the slices are {_PLANES[thick]}, {turned.spacing[thick]:g} mm apart; axial ones are "
            "wanted: give the axial reconstruction"
        )


def _degrees(cosine: float) -> float:
    return math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))
