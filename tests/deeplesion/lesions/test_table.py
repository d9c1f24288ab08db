"""The table of lesions."""

from __future__ import annotations

import csv
from pathlib import Path

from deeplesion.lesions.document import build_document
from deeplesion.lesions.table import COLUMNS, write_csv
from tests.deeplesion.lesions.scans import CARD, SETTINGS, make_lesions, make_scan


def rows_of(path: Path) -> list[dict[str, str]]:
    """A table by names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_says_what_the_document_says(tmp_path: Path) -> None:
    document = build_document(make_scan(), make_lesions(), CARD, SETTINGS)
    write_csv(tmp_path / "lesions.csv", document)
    first, second = rows_of(tmp_path / "lesions.csv")
    assert tuple(first) == COLUMNS
    lesion = document["lesions"][0]
    assert first["number"] == "1"
    assert first["measured_from"] == "mask"
    assert second["measured_from"] == "box"
    assert first["num_slices"] == "2"
    assert float(first["x2_voxel"]) == 13
    assert float(first["z1_voxel"]) == 2
    assert float(first["center_z_lps_mm"]) == 92.5
    assert float(first["size_y_mm"]) == 3.2
    assert float(first["long_axis_mm"]) == lesion["long_axis"]["mm"]
    assert float(first["short_axis_mm"]) == lesion["short_axis"]["mm"]
    assert float(first["volume_mm3"]) == lesion["volume_mm3"]
    assert float(first["mean_hu"]) == 50
    assert first["software"] == "deeplesion-alignshift"
    assert first["version"] == "1.2.3"
    assert first["checkpoint_sha256"] == "b" * 64
    assert first["config_sha256"] == "a" * 64
    assert first["scan_id"] == document["scan"]["id"]
    assert "not a medical device" in first["disclaimer"]


def test_no_lesions_give_the_names_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "lesions.csv", build_document(make_scan(), [], CARD, SETTINGS))
    assert (tmp_path / "lesions.csv").read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"
