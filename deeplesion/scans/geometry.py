"""Where the voxels of a scan are in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Geometry:
    """Voxel indices (x, y, z) and positions in the patient, in LPS mm.

    LPS is DICOM's and ITK's: x grows to the patient's left, y to posterior, z to superior.

    Attributes:
        origin: ``(3,)`` position of the center of voxel (0, 0, 0) in LPS mm.
        spacing: ``(3,)`` distance of voxels along x (columns), y (rows) and z (slices) in mm.
        direction: ``(3, 3)``, its columns the unit vectors of x, y and z in LPS.
        size: Number of voxels along x, y and z.
    """

    origin: NDArray[np.float64]
    spacing: NDArray[np.float64]
    direction: NDArray[np.float64]
    size: tuple[int, int, int]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``(3, 3)`` from a step in voxels to a step in LPS mm."""
        return self.direction * self.spacing

    def to_patient(self, voxels: ArrayLike) -> NDArray[np.float64]:
        """Positions ``(..., 3)`` in LPS mm of (fractional) voxel indices ``(..., 3)``, x y z."""
        return np.asarray(voxels, np.float64) @ self.matrix.T + self.origin

    def to_voxels(self, positions: ArrayLike) -> NDArray[np.float64]:
        """(Fractional) voxel indices ``(..., 3)``, x y z, of positions ``(..., 3)`` in LPS mm."""
        steps = np.asarray(positions, np.float64) - self.origin
        return steps @ np.linalg.inv(self.matrix).T
