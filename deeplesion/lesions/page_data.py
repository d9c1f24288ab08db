"""What the page of a scan shows, as plain JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplesion.lesions.contours import mask_contours
from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.pixels import PixelFormat
from deeplesion.lesions.windows import WINDOWS, window_of
from deeplesion.scans.scan import Scan

PAGE_LIMIT = "This page is no diagnostic viewer: screens and their brightness are not checked."
#: Labels of what documents tell of scans and of what made them, in the order shown.
_SCAN_LABELS = {
    "format": "Format",
    "size": "Voxels",
    "spacing_mm": "Voxel spacing (mm)",
    "slice_interval_mm": "Slice interval (mm)",
    "slice_thickness_mm": "Slice thickness (mm)",
    "stored_orientation": "Orientation in the file",
    "id": "SHA-256 of voxels",
}
_GENERATOR_LABELS = {
    "software": "Software",
    "version": "Version",
    "config": "Config",
    "config_sha256": "Config SHA-256",
    "checkpoint": "Checkpoint",
    "checkpoint_sha256": "Checkpoint SHA-256",
    "training_data": "Training data",
}
#: What the page takes from a document's part about a lesion.
_RECORD_KEYS = (
    "measured_slice",
    "measured_from",
    "long_axis",
    "short_axis",
    "area_mm2",
    "volume_mm3",
    "hu",
    "center",
)
#: Ends of the axes of LPS, positive first.
_LETTERS = ("LR", "PA", "SI")


def page_data(
    scan: Scan,
    lesions: Sequence[Lesion],
    document: Mapping[str, Any],
    pixels: PixelFormat,
    min_score: float = 0.0,
) -> dict[str, Any]:
    """All that the page needs but the slices.

    Neither the scan's name nor its files and identity are in it, but what ``document`` tells is.

    Args:
        scan: The scan.
        lesions: What was found in it.
        document: The findings, as ``lesions.json`` has them.
        pixels: Format of the slices in the page.
        min_score: Lesions of a lower score are hidden at first.

    Raises:
        ValueError: If the document's lesions are not those given.
    """
    records = records_by_number(lesions, document)
    depth, height, width = scan.hu.shape
    about, made = document["scan"], document["generator"]
    return {
        "id": about["id"],
        "disclaimer": document["disclaimer"],
        "limits": [*made["limits"], PAGE_LIMIT, *_pixel_note(pixels)],
        "facts": [*_labeled(about, _SCAN_LABELS), *_flat(about.get("identity", {}))],
        "warnings": about["warnings"],
        "generator": [*_labeled(made, _GENERATOR_LABELS), *_flat(made["settings"])],
        "size": [width, height, depth],
        "spacing": scan.geometry.spacing.tolist(),
        "origin": scan.geometry.origin.tolist(),
        "matrix": scan.geometry.matrix.tolist(),
        "stored": _stored_axes(scan),
        "edges": _edges(scan.geometry.direction),
        "pixels": {"step": pixels.step, "shrink": pixels.shrink},
        "range": [float(scan.hu.min()), float(scan.hu.max())],
        "windows": [[name, *window] for name, window in WINDOWS.items()],
        "min_score": min_score,
        "lesions": [_lesion(scan, lesion, records[lesion.number]) for lesion in lesions],
    }


def records_by_number(
    lesions: Sequence[Lesion], document: Mapping[str, Any]
) -> dict[int, Mapping[str, Any]]:
    """The document's part about each lesion, by its number.

    Raises:
        ValueError: If the document's lesions are not those given.
    """
    records = {int(record["number"]): record for record in document["lesions"]}
    numbers = {lesion.number for lesion in lesions}
    if numbers != records.keys() or len(numbers) != len(lesions):
        given = sorted(lesion.number for lesion in lesions)
        raise ValueError(f"document must tell of the lesions {given}, got {sorted(records)}")
    return records


def _lesion(scan: Scan, lesion: Lesion, record: Mapping[str, Any]) -> dict[str, Any]:
    masks: Sequence[Any] = lesion.masks or [None] * len(lesion.slices)
    rows = zip(lesion.slices.tolist(), lesion.boxes, lesion.scores.tolist(), masks, strict=True)
    return {
        "number": lesion.number,
        "score": lesion.score,
        "key": lesion.key_slice,
        "window": window_of(scan, lesion),
        "slices": [
            {
                "z": z,
                "box": np.round(box, 2),
                "score": score,
                "contours": [_rounded(edge) for edge in mask_contours(mask)] if mask else [],
            }
            for z, box, score, mask in rows
        ],
        **{key: record[key] for key in _RECORD_KEYS},
    }


def _rounded(edge: NDArray[np.float64]) -> list[float]:
    return [round(value, 2) for value in edge.ravel().tolist()]


def _pixel_note(pixels: PixelFormat) -> list[str]:
    notes = []
    if pixels.step > 1:
        notes.append(f"To keep this file small, HU are rounded to multiples of {pixels.step}.")
    if pixels.shrink > 1:
        square = f"{pixels.shrink} x {pixels.shrink}"
        notes.append(f"To keep this file small, it shows means of {square} voxels.")
    return notes


def _labeled(values: Mapping[str, Any], labels: Mapping[str, str]) -> list[list[str]]:
    return [[label, _text(values[key])] for key, label in labels.items()]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[list[str]]:
    """Pairs of nested mappings, whose keys are joined."""
    pairs = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{name}.")
        else:
            title = name.replace("_", " ")
            pairs.append([title[:1].upper() + title[1:], _text(value)])
    return pairs


def _text(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, list | tuple):
        return (" \u00d7 " if _numeric(value) else ", ").join(map(_text, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _stored_axes(scan: Scan) -> list[list[float]] | None:
    """``(3, 4)`` from voxels to those of the file; None where they are the same."""
    corner = scan.to_stored_voxels(np.zeros(3))
    steps = scan.to_stored_voxels(np.eye(3)) - corner
    axes = np.round(np.column_stack([steps.T, corner]), 6) + 0.0
    return None if np.array_equal(axes, np.eye(3, 4)) else axes.tolist()


def _edges(direction: NDArray[np.float64]) -> dict[str, str]:
    """Letters of the side of the patient at each edge of a slice."""
    right, bottom = (_letter(direction[:, axis]) for axis in (0, 1))
    left, top = (_letter(-direction[:, axis]) for axis in (0, 1))
    return {"left": left, "right": right, "top": top, "bottom": bottom}


def _letter(vector: NDArray[np.float64]) -> str:
    axis = int(np.abs(vector).argmax())
    return _LETTERS[axis][int(vector[axis] < 0)]
