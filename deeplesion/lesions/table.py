"""Lesions as a table, ``lesions.csv``."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from deeplesion.io import atomic_write

_MEASURES = ("area_mm2", "volume_mm3")
_DENSITY = ("mean", "sd", "min", "max")
#: Columns of the table, in order.
COLUMNS = (
    *("number", "score", "key_slice", "measured_slice", "measured_from", "num_slices"),
    *("x1_voxel", "y1_voxel", "z1_voxel", "x2_voxel", "y2_voxel", "z2_voxel"),
    *("center_x_lps_mm", "center_y_lps_mm", "center_z_lps_mm"),
    *("size_x_mm", "size_y_mm", "size_z_mm"),
    *("long_axis_mm", "short_axis_mm", *_MEASURES),
    *(f"{name}_hu" for name in _DENSITY),
    *("scan_id", "software", "version", "checkpoint_sha256", "config_sha256", "disclaimer"),
)


def write_csv(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write the lesions of a document as a table, one row each.

    Args:
        path: Where the file shall be; written by :func:`deeplesion.io.atomic_write`.
        document: What :func:`deeplesion.lesions.document.build_document` gives. Names of columns
            are :data:`COLUMNS`; what the document has as None is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(document, lesion) for lesion in document["lesions"])
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _row(document: Mapping[str, Any], lesion: Mapping[str, Any]) -> list[Any]:
    generator = document["generator"]
    return [
        *(lesion[name] for name in COLUMNS[:5]),
        len(lesion["slices"]),
        *lesion["box"]["voxels"],
        *lesion["center"]["lps_mm"],
        *lesion["box"]["size_mm"],
        *(lesion[name]["mm"] for name in ("long_axis", "short_axis")),
        *(lesion[name] for name in _MEASURES),
        *(lesion["hu"][name] for name in _DENSITY),
        document["scan"]["id"],
        *(generator[name] for name in COLUMNS[-5:-1]),
        document["disclaimer"],
    ]
