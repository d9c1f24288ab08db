"""One phantom patient in DeepLesion's own format: slice files, rows of DL_info.csv, true masks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deeplesion.datasets.ct import HU_OFFSET
from deeplesion.datasets.dl_info import SPLITS, key_slice_path
from deeplesion.datasets.masks import encode_mask
from deeplesion.datasets.synthetic.render import pixel_grid, render_slice
from deeplesion.datasets.synthetic.scene import (
    FIELD_OF_VIEW_MM,
    Anatomy,
    Lesion,
    Scene,
    draw_anatomy,
    draw_scene,
)

BOX_MARGIN_PX = 5.0
KEY_SLICES_PER_PATIENT = (1, 3)
KEY_SLICE_DISTANCE_MM = 60.0
TORSO_HEIGHT_MM = 300.0
DEPTH_MM = 6.0
"""Stored on each side of a key slice, and MIN_NEIGHBORS at least: enough for 7 slices at 2 mm."""
MIN_NEIGHBORS = 3
WINDOW = "-175, 275"

BONE, ABDOMEN, MEDIASTINUM, LIVER, LUNG, KIDNEY, SOFT_TISSUE, PELVIS = range(1, 9)
_TYPE_OF_ORGAN = {"liver": LIVER, "spleen": ABDOMEN, "kidney": KIDNEY}


@dataclass(frozen=True)
class Patient:
    """One patient's place in the data set: number from 1, split, slice interval in mm, own seed."""

    number: int
    split: str
    slice_interval: float
    seed: np.random.SeedSequence

    @property
    def series(self) -> str:
        """Name of the patient's one series, as in ``000001_01_01``."""
        return f"{self.number:06d}_01_01"


@dataclass(frozen=True)
class Scan:
    """How a key slice (its number) and its neighbors are imaged; lengths in mm, size in px."""

    anatomy: Anatomy
    key: int
    slice_interval: float
    size: int
    spacing: float

    @property
    def first(self) -> int:
        """Number of the first stored slice."""
        return self.key - neighbors_stored(self.slice_interval)

    @property
    def last(self) -> int:
        """Number of the last stored slice."""
        return self.key + neighbors_stored(self.slice_interval)


@dataclass(frozen=True)
class PatientOutput:
    """Rows of DL_info.csv and masks of one patient: file name -> masks."""

    rows: list[dict[str, str]]
    masks: dict[str, list[dict[str, Any]]]


def neighbors_stored(slice_interval: float) -> int:
    """How many slices are stored on each side of a key slice."""
    return max(MIN_NEIGHBORS, math.ceil(DEPTH_MM / slice_interval))


def key_slice_indices(rng: np.random.Generator, slice_interval: float) -> list[int]:
    """Key slices of one volume, far enough apart to share no lesion and no stored slice."""
    count = int(rng.integers(KEY_SLICES_PER_PATIENT[0], KEY_SLICES_PER_PATIENT[1] + 1))
    first = neighbors_stored(slice_interval) + 1 + int(rng.integers(0, 20))
    apart = math.ceil(KEY_SLICE_DISTANCE_MM / slice_interval)
    return [first + i * apart for i in range(count)]


def _numbers(*values: float) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def recist_points(lesion: Lesion, size: int, spacing: float) -> np.ndarray:
    """RECIST end points in 0-based px, ``(4, 2)``: of the long axis, then of the short one."""
    outline = lesion.key.outline
    along = np.array([math.cos(outline.angle), math.sin(outline.angle)])
    across = np.array([-along[1], along[0]])
    ends = np.stack(
        [outline.a * along, -outline.a * along, outline.b * across, -outline.b * across]
    )
    return (ends + np.array([outline.x, outline.y])) / spacing + (size - 1) / 2


def true_mask(lesion: Lesion, size: int, spacing: float) -> np.ndarray:
    """The lesion's pixels in its key slice, ``(size, size)`` uint8."""
    inside = lesion.key.outline.radius(*pixel_grid(size, spacing)) <= 1.0
    return inside.astype(np.uint8)


def coarse_type(lesion: Lesion, anatomy: Anatomy) -> int:
    """DeepLesion's coarse type (1 to 8) by the organ that holds the lesion."""
    x, y = lesion.key.outline.x, lesion.key.outline.y
    for name, outline, _ in reversed(anatomy.organs):
        if outline.clearance(x, y) < 0:
            return _TYPE_OF_ORGAN[name]
    if float(anatomy.interior.radius(np.array(x), np.array(y))) > 0.75:
        return SOFT_TISSUE
    return MEDIASTINUM if y < 0 else ABDOMEN


def lesion_row(lesion: Lesion, scan: Scan) -> tuple[dict[str, str], list[float]]:
    """The lesion's columns of DL_info.csv (1-based px), and the box they give in 0-based px."""
    recist = recist_points(lesion, scan.size, scan.spacing) + 1
    low = np.maximum(recist.min(axis=0) - BOX_MARGIN_PX, 1)
    high = np.minimum(recist.max(axis=0) + BOX_MARGIN_PX, scan.size)
    box = _numbers(*low, *high)
    x, y = recist.mean(axis=0) / scan.size
    outline = lesion.key.outline
    columns = {
        "Measurement_coordinates": _numbers(*recist.ravel()),
        "Bounding_boxes": box,
        "Lesion_diameters_Pixel_": _numbers(
            2 * outline.a / scan.spacing, 2 * outline.b / scan.spacing
        ),
        "Normalized_lesion_location": _numbers(x, y, min(1.0, lesion.z / TORSO_HEIGHT_MM)),
        "Coarse_lesion_type": str(coarse_type(lesion, scan.anatomy)),
    }
    return columns, [float(value) - 1 for value in box.split(", ")]


def store_slices(rng: np.random.Generator, folder: Path, scan: Scan, scene: Scene) -> None:
    """Write the key slice and its neighbors as 16-bit PNG, HU + 32768."""
    grid = pixel_grid(scan.size, scan.spacing)
    for index in range(scan.first, scan.last + 1):
        hu = render_slice(rng, scan.anatomy, scene, grid, index * scan.slice_interval)
        stored = np.clip(np.rint(hu) + HU_OFFSET, 0, 65535).astype(np.uint16)
        path = key_slice_path(folder.parent, folder.name, index)
        if not cv2.imwrite(str(path), stored):
            raise OSError(f"cannot write {path}")


def generate_patient(patient: Patient, size: int, images: Path) -> PatientOutput:
    """Draw a patient and store the slices around each key slice under ``images``."""
    rng = np.random.default_rng(patient.seed)
    spacing = float(f"{FIELD_OF_VIEW_MM / size * rng.uniform(0.95, 1.05):.6g}")
    anatomy = draw_anatomy(rng)
    about = {
        "Patient_index": str(patient.number),
        "Study_index": "1",
        "Series_ID": "1",
        "Possibly_noisy": "0",
        "Spacing_mm_px_": _numbers(spacing, spacing, patient.slice_interval),
        "Image_size": f"{size}, {size}",
        "DICOM_windows": WINDOW,
        "Patient_gender": "F" if rng.random() < 0.5 else "M",
        "Patient_age": str(int(rng.integers(18, 90))),
        "Train_Val_Test": str(SPLITS.index(patient.split) + 1),
    }
    folder = images / patient.series
    folder.mkdir(parents=True)
    output = PatientOutput([], {})
    for key in key_slice_indices(rng, patient.slice_interval):
        scan = Scan(anatomy, key, patient.slice_interval, size, spacing)
        scene = draw_scene(rng, anatomy, key * patient.slice_interval)
        store_slices(rng, folder, scan, scene)
        name = f"{patient.series}_{key:03d}.png"
        about |= {
            "File_name": name,
            "Key_slice_index": str(key),
            "Slice_range": f"{scan.first}, {scan.last}",
        }
        output.masks[name] = []
        for lesion in scene.lesions:
            columns, box = lesion_row(lesion, scan)
            output.rows.append({**about, **columns})
            mask = encode_mask(true_mask(lesion, size, spacing))
            output.masks[name].append({"bbox": box, **mask})
    return output
