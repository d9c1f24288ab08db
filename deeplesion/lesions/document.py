"""The findings in a scan as one JSON document, ``lesions.json``, and as a table.

``lesions.schema.json`` beside this file is its JSON Schema, ``docs/lesions.md`` tells it field by
field. Nothing in the document tells who the patient is, nor which files were read, unless asked
for: the scan is named by a hash of its voxels and geometry. Lengths and positions are rounded to
:data:`DECIMALS` places.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deeplesion import io as files
from deeplesion.evaluation.overlaps import PIXEL
from deeplesion.lesions.axes import Segment
from deeplesion.lesions.label_maps import label_map
from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.measuring import measure_lesion
from deeplesion.lesions.model_card import DISCLAIMER, ModelCard
from deeplesion.lesions.table import write_csv
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.scan import Scan

__all__ = [
    "SCHEMA",
    "SCHEMA_FILE",
    "ModelCard",
    "build_document",
    "label_map",
    "orientation_code",
    "scan_id",
    "write_csv",
    "write_json",
]

#: Raised when a field changes its meaning or goes; fields may be added under the same name.
SCHEMA = "lesions/1"
SCHEMA_FILE = Path(__file__).with_name("lesions.schema.json")
DECIMALS = 4
_SCORE_DECIMALS = 6
_LEAST_NAME = 4
# Names that tell of no patient; longer numbers may be IDs and dates.
_NUMBERED = re.compile(r"\d{1,5}(\.[A-Za-z]\w*)*")
COORDINATES = {
    "voxels": "x, y, z: column, row and slice, from 0, of the scan as it was searched: slices from "
    "head to feet, rows from anterior to posterior, columns from the patient's right to left. The "
    "center of a voxel is at its index; boxes go from the center of their first to the center of "
    "their last voxel.",
    "stored_voxels": "The same as indices of the file's own array (x the fastest, z the slice).",
    "lps_mm": "Position in the patient in mm: x to the left, y to posterior, z to superior.",
}
_AXES = ("LR", "PA", "SI")  # where x, y and z of LPS go, and where they come from


def build_document(
    scan: Scan,
    lesions: Sequence[Lesion],
    card: ModelCard,
    settings: Mapping[str, Any],
    with_identity: bool = False,
    *,
    stride: int = 1,
) -> dict[str, Any]:
    """Measure lesions and say all that is known of them.

    Args:
        scan: Where they were found.
        lesions: By number.
        card: What found them.
        settings: How: thresholds and the like, JSON's types; without paths, for they are written.
        with_identity: Whether the scan's name, files and identity are written.
        stride: Distance of key slices, in slices.

    Returns:
        What :func:`write_json` writes: dictionaries, lists, strings, finite numbers and None.

    Raises:
        ValueError: As :func:`deeplesion.lesions.measuring.measure_lesion`.
    """
    return {
        "schema": SCHEMA,
        "disclaimer": DISCLAIMER,
        "generator": {**card.as_dict(), "settings": dict(settings)},
        "scan": _scan_entry(scan, with_identity),
        "coordinates": dict(COORDINATES),
        "lesions": [_lesion_entry(scan, lesion, stride) for lesion in lesions],
    }


def write_json(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a document as strict JSON; ValueError if a number in it is not finite."""
    files.write_json(path, document, indent=2, allow_nan=False)


def scan_id(scan: Scan) -> str:
    """SHA-256 of a scan's voxels and geometry, hexadecimal; no file's name or header is in it."""
    digest = hashlib.sha256(f"{scan.hu.dtype.str} {scan.hu.shape}".encode())
    for part in (scan.geometry.origin, scan.geometry.spacing, scan.geometry.direction):
        # A format's rounding of positions must not make it another scan; -0 is 0.
        digest.update((np.asarray(part, np.float64).round(3) + 0.0).tobytes())
    for image in scan.hu:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _scan_entry(scan: Scan, with_identity: bool) -> dict[str, Any]:
    geometry = scan.geometry
    entry: dict[str, Any] = {
        "id": scan_id(scan),
        "format": scan.format,
        "size": [int(count) for count in geometry.size],
        "spacing_mm": _rounded(geometry.spacing),
        "slice_interval_mm": _number(scan.slice_interval),
        "slice_thickness_mm": _number(scan.thickness),
        "origin_lps_mm": _rounded(geometry.origin),
        "direction_lps": _rounded(geometry.direction, _SCORE_DECIMALS),
        "orientation": orientation_code(geometry),
        "stored_orientation": orientation_code(scan.stored),
        "warnings": [_without_identity(scan, text) for text in scan.warnings],
    }
    if with_identity:
        entry["warnings"] = list(scan.warnings)
        entry["identity"] = {
            **{key: str(value) for key, value in scan.identity.items()},
            "name": scan.name,
            "files": [path.name for path in scan.files],
        }
    return entry


def orientation_code(geometry: Geometry) -> str:
    """Where x, y and z go, by the nearest axes: ``LPI`` is to left, posterior and inferior."""
    main = np.abs(geometry.direction).argmax(axis=0)
    return "".join(
        _AXES[axis][int(geometry.direction[axis, column] < 0)] for column, axis in enumerate(main)
    )


def _without_identity(scan: Scan, text: str) -> str:
    """A warning without names of files and what tells who the patient is."""
    names = [str(path) for path in scan.files] + [path.name for path in scan.files]
    names += [path.stem for path in scan.files] + [str(path.parent) for path in scan.files]
    for name in sorted({*names, scan.name, *map(str, scan.identity.values())}, key=len)[::-1]:
        if _is_telling(name):
            # Whole words: what merely holds the same letters is none of the patient's.
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "[...]", text)
    return text


def _is_telling(name: str) -> bool:
    """Whether a name is long enough not to be a number or word that anything may have."""
    return len(name) >= _LEAST_NAME and not _NUMBERED.fullmatch(name)


def _lesion_entry(scan: Scan, lesion: Lesion, stride: int) -> dict[str, Any]:
    measured = measure_lesion(lesion, scan.hu, scan.geometry.spacing, stride)
    z = measured.slice
    return {
        "number": lesion.number,
        "score": round(lesion.score, _SCORE_DECIMALS),
        "key_slice": lesion.key_slice,
        "box": _box_entry(scan, lesion, stride),
        "center": _center_entry(scan, lesion),
        "slices": [
            {"z": int(z), "box": _rounded(box), "score": round(float(score), _SCORE_DECIMALS)}
            for z, box, score in zip(lesion.slices, lesion.boxes, lesion.scores, strict=True)
        ],
        "measured_slice": z,
        "measured_from": measured.source,
        "long_axis": _axis_entry(scan, measured.long, z),
        "short_axis": _axis_entry(scan, measured.short, z),
        "area_mm2": _number(measured.area),
        "volume_mm3": _number(measured.volume),
        "hu": {name: _number(value) for name, value in measured.hu._asdict().items()},
    }


def _box_entry(scan: Scan, lesion: Lesion, stride: int) -> dict[str, Any]:
    box = np.array(lesion.box_3d).reshape(2, 3)
    corners = np.array(list(product(*box.T)))
    # A lesion fills its key slices and half of what lies between them and the next ones.
    size = (box[1] - box[0] + [PIXEL, PIXEL, stride]) * scan.geometry.spacing
    return {
        "voxels": _rounded(box.ravel()),
        "stored_voxels": _hull(scan.to_stored_voxels(corners)),
        "lps_mm": _hull(scan.geometry.to_patient(corners)),
        "size_mm": _rounded(size),
    }


def _center_entry(scan: Scan, lesion: Lesion) -> dict[str, Any]:
    center = np.array(lesion.box_3d).reshape(2, 3).mean(axis=0)
    return {
        "voxels": _rounded(center),
        "stored_voxels": _rounded(scan.to_stored_voxels(center)),
        "lps_mm": _rounded(scan.geometry.to_patient(center)),
    }


def _axis_entry(scan: Scan, axis: Segment, z: int) -> dict[str, Any]:
    ends = np.column_stack([axis.ends, [z, z]])
    return {
        "mm": _number(axis.mm),
        "ends_px": _rounded(axis.ends),
        "ends_lps_mm": _rounded(scan.geometry.to_patient(ends)),
    }


def _hull(points: ArrayLike) -> list[float]:
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    return [*_rounded(low), *_rounded(high)]


def _rounded(values: ArrayLike, decimals: int = DECIMALS) -> list[Any]:
    """Nested lists; -0 is 0."""
    rounded: list[Any] = (np.asarray(values, np.float64).round(decimals) + 0.0).tolist()
    return rounded


def _number(value: float) -> float | None:
    return round(value, DECIMALS) + 0.0 if math.isfinite(value) else None
