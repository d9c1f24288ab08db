"""Pictures of findings."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.canvas import STYLES
from deeplesion.datasets.ct import SliceError, window_to_uint8
from deeplesion.evaluation.gallery import (
    build_gallery,
    data_uri,
    draw_entry,
    entry_as_json,
    read_planes,
)
from tests.deeplesion.datasets.helpers import write_slice
from tests.deeplesion.evaluation.report_material import (
    case_of,
    method_of,
    random_cases,
    random_method,
    write_slices,
)

LESION, OTHER, FAR = [10, 20, 19, 29], [30, 50, 37, 57], [25, 5, 34, 14]


def test_planes_are_windowed_crops(tmp_path: Path) -> None:
    case = case_of(0, [LESION], window=(-100.0, 155.0))
    ramp = np.arange(64 * 48).reshape(64, 48) % 300 - 100.0
    for index, shift in ((4, 10), (5, 0)):
        write_slice(tmp_path / case.series / f"{index:03d}.png", ramp + shift)
    (x1, y1, x2, y2), planes = read_planes(tmp_path, case, np.array(LESION, float))
    assert (x2 - x1, y2 - y1) == (30, 30)
    assert list(planes) == [-1, 0, 1]
    for step, shift in ((-1, 10), (0, 0)):
        wanted = window_to_uint8((ramp + shift)[y1:y2, x1:x2], (-100, 155))
        np.testing.assert_array_equal(planes[step], wanted)
    assert planes[1] is None


def test_entries_hold_what_touches_the_crop(tmp_path: Path) -> None:
    cases = [case_of(0, [LESION, OTHER])]
    boxes = [[*LESION, 0.3], [*OTHER, 0.9], [*FAR, 0.8], [12, 22, 21, 31, 0.2]]
    methods = [method_of("a", cases, [boxes]), method_of("b", cases, [[]])]
    entries, notes = build_gallery(cases, methods, write_slices(tmp_path, cases))
    assert notes == []
    (miss, _, alarm, _, _) = entries
    assert (miss.finding.kind, miss.finding.lesion, miss.finding.score) == ("miss", 0, 0.3)
    np.testing.assert_array_equal(miss.lesions, [0])
    np.testing.assert_array_equal(miss.found["a"], [0.3])
    assert np.isnan(miss.found["b"]).all()
    np.testing.assert_array_equal(miss.boxes["a"][:, 4], [0.3, 0.8, 0.2])
    assert miss.kinds == {"a": ["hit", "false positive", "false positive"], "b": []}
    assert (alarm.finding.kind, alarm.finding.score) == ("false positive", 0.8)


def test_entries_as_json(tmp_path: Path) -> None:
    cases = [case_of(0, [LESION], heights=np.array([np.nan]))]
    method = method_of("a", cases, [[[*FAR, 0.8]]])
    entries, _ = build_gallery(cases, [method], write_slices(tmp_path, cases))
    miss, alarm = (json.loads(json.dumps(entry_as_json(entry))) for entry in entries)
    assert (miss["kind"], miss["score"], miss["overlap"]) == ("miss", None, 0)
    assert (miss["file"], miss["type"], miss["long_axis"]) == ("000001_01_01_005.png", "bone", 7.2)
    assert miss["lesions"][0]["box"] == miss["target"] == LESION
    assert miss["lesions"][0]["found"] == {"a": None}
    assert miss["lesions"][0]["target"]
    assert miss["boxes"]["a"] == [{"box": FAR, "score": 0.8, "kind": "false positive"}]
    assert [plane["slice"] for plane in miss["planes"]] == [4, 5, 6]
    assert (alarm["score"], alarm["type"], alarm["long_axis"]) == (0.8, "", None)
    assert not alarm["lesions"][0]["target"]
    assert not {"patient", "gender", "age", "sex"} & miss.keys()


def test_unknown_recist_is_none(tmp_path: Path) -> None:
    cases = [case_of(0, [LESION], recists=np.full((1, 4, 2), np.nan))]
    root = write_slices(tmp_path, cases)
    ((entry,), _) = build_gallery(cases, [method_of("a", cases, [[]])], root)
    assert entry_as_json(entry)["lesions"][0]["recist"] is None
    assert draw_entry(entry, 0.5).ndim == 3


def test_data_uris_are_png() -> None:
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)
    match = re.fullmatch(r"data:image/png;base64,([A-Za-z0-9+/=]+)", data_uri(gray))
    assert match
    data = np.frombuffer(base64.b64decode(match[1]), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), gray)


def test_drawn_pictures_show_boxes_above_the_threshold(tmp_path: Path) -> None:
    cases = [case_of(0, [LESION])]
    method = method_of("a", cases, [[[*FAR, 0.3]]])
    entries, _ = build_gallery(cases, [method], write_slices(tmp_path, cases))
    miss, alarm = entries

    def colors(entry: int, threshold: float) -> set[str]:
        picture = draw_entry((miss, alarm)[entry], threshold)[:390]
        return {k for k, s in STYLES.items() if (picture == s.color).all(axis=2).any()}

    assert colors(0, 0.5) == {"lesion missed"}
    assert "false positive" in colors(0, 0.2)
    assert "false positive" in colors(1, 0.5)  # the finding itself is always there
    assert draw_entry(miss, 0.5).shape[1] == 3 * 390 + 2 * 4


def test_slices_that_are_not_stored(tmp_path: Path) -> None:
    cases = random_cases(4)
    methods = [random_method("a", cases, 0)]
    assert build_gallery(cases, methods, None) == (
        [],
        ["There is no gallery: the slices are not stored, only annotations are."],
    )
    root = write_slices(tmp_path, cases[:2])
    entries, notes = build_gallery(cases, methods, root)
    assert {entry.case.file_name for entry in entries} == {c.file_name for c in cases[:2]}
    assert re.match(r"\d pictures are left out of the gallery, the first for: .*005\.png", notes[0])
    with pytest.raises(SliceError, match=r"000003_01_01/005\.png is missing"):
        read_planes(root, cases[2], cases[2].lesions[0])


def test_on_real_slices(shared_data: Path) -> None:
    from deeplesion.evaluation.ground_truth import read_cases

    root = shared_data / "deeplesion_mini"
    cases = read_cases(root / "DL_info.csv")
    method = method_of("a", cases, [[] for _ in cases])
    entries, notes = build_gallery(cases, [method], root / "Images_png", count=3)
    assert notes == []
    assert [entry.planes[1] for entry in entries] == [None] * 3
    sizes = [entry.case.long_axes[entry.finding.lesion] for entry in entries]
    assert sizes == sorted(np.concatenate([case.long_axes for case in cases]))[:-4:-1]
