"""A CT scan in memory, in the orientation of DeepLesion's slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.lesion_record import DataError
from deeplesion.scans.geometry import Geometry


class ScanError(DataError):
    """A scan that cannot be read, or is not what it should be."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A series of axial slices as networks see them, and where it came from.

    Slices go from head to feet; in a slice rows go from anterior to posterior and columns from the
    patient's right to left: what DeepLesion stores and radiologists look at. Files in any other
    orientation are turned by swapping and flipping axes; no voxel is interpolated.

    Attributes:
        name: File-safe name for outputs, from the file's or folder's. It may hold who the patient
            is, so it must not be written into outputs, only name their folder.
        format: ``DICOM``, ``NIfTI``, ``MetaImage``, ``NRRD`` or ``DeepLesion``.
        hu: ``(D, H, W)`` in HU, int16 (float32 where the file holds fractions).
        geometry: Of ``hu``.
        stored: Geometry of the file's own array, for voxel positions as other programs show them
            and for label maps in the scan's own geometry.
        thickness: Thickness of a slice in mm as the header says; NaN where it does not. Their
            distance is ``slice_interval``.
        files: What was read; for DICOM one file per slice of ``hu`` (one in all if multi-frame).
        frames: For multi-frame DICOM the number, from 1, of the frame in its file, for each slice
            of ``hu``; empty for others.
        interpolated: Slices of ``hu`` that were missing and were interpolated; their file (and
            frame) is the nearest one.
        identity: Who and when: patient's name and ID, dates, institution. Never written unless
            asked for.
        warnings: What was found and mended (doubled slices, gaps, ...), a sentence each. They name
            no file and quote no description, for these may tell who the patient is.
    """

    name: str
    format: str
    hu: NDArray[np.int16] | NDArray[np.float32]
    geometry: Geometry
    stored: Geometry
    thickness: float = float("nan")
    files: tuple[Path, ...] = ()
    frames: tuple[int, ...] = ()
    interpolated: tuple[int, ...] = ()
    identity: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def slice_interval(self) -> float:
        """Distance of slices in mm."""
        return float(self.geometry.spacing[2])

    def to_stored_voxels(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices ``(..., 3)``, x y z of ``hu``, as indices of the file's own array."""
        return self.stored.to_voxels(self.geometry.to_patient(voxels))
