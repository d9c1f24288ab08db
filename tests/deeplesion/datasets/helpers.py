"""Data sets in DeepLesion's layout, written by the tests."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike

from deeplesion.datasets.ct import HU_OFFSET
from deeplesion.datasets.dl_info import COLUMNS


def csv_row(**changes: object) -> dict[str, str]:
    """A good row about slice 5 of a series of 64 x 48 px (h x w), with some cells changed."""
    row = {
        "File_name": "000001_01_01_005.png",
        "Patient_index": "1",
        "Study_index": "1",
        "Series_ID": "1",
        "Key_slice_index": "5",
        "Measurement_coordinates": "16, 26, 26, 26, 21, 22, 21, 30",
        "Bounding_boxes": "11, 17, 31, 35",
        "Lesion_diameters_Pixel_": "10, 8",
        "Normalized_lesion_location": "0.4, 0.5, 0.6",
        "Coarse_lesion_type": "-1",
        "Possibly_noisy": "0",
        "Slice_range": "1, 9",
        "Spacing_mm_px_": "0.5, 0.5, 1",
        "Image_size": "64, 48",
        "DICOM_windows": "-175, 275",
        "Patient_gender": "F",
        "Patient_age": "61",
        "Train_Val_Test": "1",
    }
    assert tuple(row) == COLUMNS
    return row | {name: str(value) for name, value in changes.items()}


def row_of(series: str, key: int, split: int = 1, **changes: object) -> dict[str, str]:
    """A good row about another key slice."""
    return csv_row(
        File_name=f"{series}_{key:03d}.png",
        Patient_index=int(series[:6]),
        Key_slice_index=key,
        Train_Val_Test=split,
        **changes,
    )


def write_csv(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    """Write a ``DL_info.csv``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_slice(path: Path, hu: ArrayLike, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a 16-bit slice: an array of HU, or one value for all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.broadcast_to(np.asarray(hu), size) + HU_OFFSET
    assert cv2.imwrite(str(path), image.astype(np.uint16))
    return path


def write_series(root: Path, series: str, indices: Iterable[int]) -> None:
    """Write slices that are 10 HU times their number throughout."""
    for index in indices:
        write_slice(root / "Images_png" / series / f"{index:03d}.png", 10 * index)
