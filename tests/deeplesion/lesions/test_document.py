"""The document, its schema, and what is not in it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.lesions.document import (
    SCHEMA_FILE,
    build_document,
    orientation_code,
    scan_id,
    write_csv,
    write_json,
)
from deeplesion.scans.geometry import Geometry
from tests.deeplesion.lesions.scans import CARD, SECRETS, SETTINGS, make_lesions, make_scan


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of the small scan."""
    return build_document(make_scan(), make_lesions(), CARD, SETTINGS)


def validate(content: Any) -> None:
    """Raise unless the schema that is shipped holds."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(content)


def test_lesion_by_hand(document: dict[str, Any]) -> None:
    lesion = document["lesions"][0]
    assert (lesion["number"], lesion["score"], lesion["key_slice"]) == (1, 0.9, 3)
    assert lesion["box"] == {
        "voxels": [4, 5, 2, 13, 8, 3],
        # Stored x is 29 - x, y is 19 - y, z is 5 - z.
        "stored_voxels": [16, 11, 2, 25, 14, 3],
        "lps_mm": [-5.25, 1.0, 91.0, -0.75, 3.4, 94.0],
        "size_mm": [5.0, 3.2, 6.0],
    }
    assert lesion["center"]["voxels"] == [8.5, 6.5, 2.5]
    assert lesion["center"]["stored_voxels"] == [20.5, 12.5, 2.5]
    assert lesion["center"]["lps_mm"] == [-3.0, 2.2, 92.5]
    assert lesion["slices"][1] == {"z": 3, "box": [4, 5, 13, 8], "score": 0.9}
    assert lesion["measured_slice"] == 3
    assert lesion["measured_from"] == "mask"
    assert lesion["area_mm2"] == pytest.approx(40 * 0.4)
    assert lesion["volume_mm3"] == pytest.approx(40 * 0.4 * 6)
    assert lesion["hu"] == {"mean": 50, "sd": 0, "min": 50, "max": 50}


@pytest.mark.parametrize("axis", ["long_axis", "short_axis"])
def test_ends_of_axes_are_where_their_length_says(document: dict[str, Any], axis: str) -> None:
    for lesion in document["lesions"]:
        (x1, y1), (x2, y2) = lesion[axis]["ends_px"]
        assert math.hypot((x2 - x1) * 0.5, (y2 - y1) * 0.8) == pytest.approx(
            lesion[axis]["mm"], abs=1e-3
        )
        first, second = lesion[axis]["ends_lps_mm"]
        assert math.dist(first, second) == pytest.approx(lesion[axis]["mm"], abs=1e-3)
        assert first == pytest.approx(
            [-7.25 + 0.5 * x1, -3 + 0.8 * y1, 100 - 3 * lesion["measured_slice"]], abs=1e-3
        )


def test_lesion_without_masks_says_so(document: dict[str, Any]) -> None:
    assert document["lesions"][1]["measured_from"] == "box"
    assert document["lesions"][1]["measured_slice"] == 1  # the wider box
    assert document["lesions"][1]["key_slice"] == 0


def test_scan_and_card(document: dict[str, Any]) -> None:
    scan = document["scan"]
    assert scan["size"] == [30, 20, 6]
    assert scan["slice_interval_mm"] == 3
    assert scan["slice_thickness_mm"] == 5
    assert scan["orientation"] == "LPI"
    assert scan["stored_orientation"] == "RAS"
    assert document["generator"]["checkpoint_sha256"] == "b" * 64
    assert document["generator"]["training_data"] is None
    assert document["generator"]["settings"] == SETTINGS
    assert "not a medical device" in document["disclaimer"]


@pytest.mark.parametrize("with_identity", [False, True])
def test_schema_holds(with_identity: bool, tmp_path: Path) -> None:
    content = build_document(
        replace(make_scan(), thickness=math.nan), make_lesions(), CARD, SETTINGS, with_identity
    )
    assert content["scan"]["slice_thickness_mm"] is None
    write_json(tmp_path / "lesions.json", content)
    read = json.loads((tmp_path / "lesions.json").read_text(encoding="utf-8"))
    assert read == content
    validate(read)
    validate(build_document(make_scan(), [], CARD, {}))


def test_schema_refuses_what_is_wrong(document: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    for wrong in (
        {**document, "schema": "lesions/2"},
        {key: value for key, value in document.items() if key != "disclaimer"},
        {**document, "lesions": [{**document["lesions"][0], "area_mm2": None}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)


def test_nothing_tells_who_the_patient_is_unless_asked(tmp_path: Path) -> None:
    scan = make_scan()
    content = build_document(scan, make_lesions(), CARD, SETTINGS)
    write_json(tmp_path / "lesions.json", content)
    write_csv(tmp_path / "lesions.csv", content)
    for path in tmp_path.iterdir():
        text = path.read_text(encoding="utf-8").lower()
        assert not [secret for secret in SECRETS if secret.lower() in text]
    assert content["scan"]["warnings"] == ["[...] of [...] has no slice at 12 mm"]

    identity = build_document(scan, [], CARD, SETTINGS, True)["scan"]["identity"]
    assert identity["patient_name"] == "DOE^Jane"
    assert identity["name"] == "series_of_doe"
    assert identity["files"] == ["IM0007.nii"]


@pytest.mark.parametrize(
    ("files", "text", "expected"),
    [
        # What merely looks like a name of a file or a patient stays.
        (["a/103.png"], "the numbers have gaps; 103-110 were taken", None),
        (["a/103.png"], "slice 103.png is twice", None),
        (["a/gaps.nii"], "has gapsize 3", None),
        (["a/ct.nii"], "no ct in it", None),
        (["a/Maria.nii"], "of Maria (Maria.nii, a/Maria.nii)", "of [...] ([...], [...])"),
        ([], "of 123456 and 1234567 on 2031", "of [...] and 1234567 on 2031"),
        ([], "series 1.2.840.7 has 5 slices", "series [...] has 5 slices"),
    ],
)
def test_warnings_are_not_garbled(files: list[str], text: str, expected: str | None) -> None:
    scan = replace(
        make_scan(),
        name="scan",
        files=tuple(map(Path, files)),
        identity={"patient_id": "123456", "comments": "2031", "sex": "O", "uid": "1.2.840.7"},
        warnings=(text,),
    )
    entry = build_document(scan, [], CARD, SETTINGS)["scan"]
    assert entry["warnings"] == [expected or text]


def test_strict_json_is_written_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "lesions.json", {"score": math.nan})
    assert not list(tmp_path.iterdir())


def test_density_that_is_not_known_is_null() -> None:
    lesion = replace(make_lesions()[1], boxes=np.array([[3.5, 3.5, 3.5, 3.5]] * 2))
    content = build_document(make_scan(), [lesion], CARD, SETTINGS)
    assert content["lesions"][0]["hu"] == dict.fromkeys(("mean", "sd", "min", "max"))
    validate(content)


def test_stride_makes_lesions_thicker() -> None:
    content = build_document(make_scan(), make_lesions()[:1], CARD, SETTINGS, stride=2)
    assert content["lesions"][0]["box"]["size_mm"][2] == 9
    assert content["lesions"][0]["volume_mm3"] == pytest.approx(40 * 0.4 * 9)


def test_id_of_a_scan_is_that_of_its_content() -> None:
    scan = make_scan()
    other = replace(scan, name="x", files=(), identity={}, format="DICOM")
    assert scan_id(other) == scan_id(scan)
    changed = scan.hu.copy()
    changed[0, 0, 0] += 1
    assert scan_id(replace(scan, hu=changed)) != scan_id(scan)
    moved = replace(scan.geometry, origin=scan.geometry.origin + 1)
    assert scan_id(replace(scan, geometry=moved)) != scan_id(scan)


@pytest.mark.parametrize(
    ("direction", "code"),
    [
        (np.eye(3), "LPS"),
        (np.diag([-1.0, -1.0, 1.0]), "RAS"),
        (np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]), "PIL"),
        (np.array([[0.98, 0, 0], [0, 0.9, 0.4], [0, -0.4, 0.9]]), "LPS"),
    ],
)
def test_orientation_code(direction: np.ndarray, code: str) -> None:
    assert orientation_code(Geometry(np.zeros(3), np.ones(3), direction, (1, 1, 1))) == code
