"""Prediction files: both layouts, and what is refused or named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.ground_truth import cases_of_coco
from deeplesion.evaluation.predictions import Predictions, read_predictions, unique_names

NAMES = ("000001_01_01_005.png", "000001_01_01_006.png", "000002_01_01_007.png")


def cases(ids: Sequence[int] = (11, 12, 13)) -> list[Case]:
    """Three key slices of one lesion each."""
    images = [{"id": number, "file_name": name} for number, name in zip(ids, NAMES, strict=True)]
    boxes = [{"image_id": number, "bbox": [10, 10, 20, 20]} for number in ids]
    return cases_of_coco({"images": images, "annotations": boxes}, "gt.json")


def without_ids() -> list[Case]:
    """The same as ``DL_info.csv`` gives them."""
    return [Case(**{**vars(case), "image_id": None}) for case in cases()]


def ours(*images: Any, **meta: Any) -> dict[str, Any]:
    """A file of our own layout."""
    return {"meta": meta, "images": list(images)}


def entry(name: str, *boxes: Any) -> dict[str, Any]:
    """An image of our own layout."""
    return {"img_id": 1, "file_name": name, "bboxes": list(boxes)}


def result(image: Any, box: Any = (1, 2, 3, 4), score: Any = 0.5, **more: Any) -> dict[str, Any]:
    """An entry of COCO results."""
    return {"image_id": image, "bbox": list(box), "score": score, "category_id": 1, **more}


def write(path: Path, content: Any) -> Path:
    """Write it as JSON."""
    path.write_text(json.dumps(content))
    return path


ALL = [entry(name, [1, 2, 3, 4, 0.5]) for name in NAMES]


def test_our_layout(tmp_path: Path) -> None:
    images = [
        entry(NAMES[2], [1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.9]),
        entry("000001_01_01/005.png", [1, 2, 30, 4, 1]),
        entry(NAMES[1]),
    ]
    path = write(tmp_path / "alignshift.json", ours(*images, split="test"))
    found = read_predictions(path, without_ids())
    assert (found.name, found.notes, found.meta) == ("alignshift", (), {"split": "test"})
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_array_equal(found.detections[0], [[1, 2, 30, 4, 1]])
    assert found.detections[1].shape == (0, 5)
    np.testing.assert_array_equal(found.detections[2], [[1, 2, 3, 4, 0.5], [5, 6, 7, 8, 0.9]])


@pytest.mark.parametrize("keys", [(11, 12, 13), NAMES, ("x/000001_01_01/005.png", *NAMES[1:])])
def test_coco_results(tmp_path: Path, keys: Sequence[Any]) -> None:
    content = [result(keys[1], score=0.1), *map(result, keys)]
    found = read_predictions(write(tmp_path / "results.json", content), cases(), name="A3D")
    assert found.name == "A3D"
    assert found.notes == ()
    np.testing.assert_array_equal(found.detections[0], [[1, 2, 4, 6, 0.5]])
    np.testing.assert_array_equal(found.detections[1][:, 4], [0.1, 0.5])


def test_a_file_called_predictions_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "a3d").mkdir()
    path = write(tmp_path / "a3d" / "predictions.json", ours(*ALL))
    assert read_predictions(path, cases()).name == "a3d"


def test_numbers_need_a_ground_truth_that_has_them(tmp_path: Path) -> None:
    path = write(tmp_path / "results.json", [result(11)])
    with pytest.raises(DataError, match="image_id 11 is a number, and the ground truth has none"):
        read_predictions(path, without_ids())


def test_images_that_the_split_does_not_have(tmp_path: Path) -> None:
    extra = [entry("000009_01_01_001.png", [1, 2, 3, 4, 0.5]), entry("000009_01_01_002.png")]
    path = write(tmp_path / "a.json", ours(*extra, *ALL))
    with pytest.raises(DataError, match=r"2 image\(s\) .* of the 3|2 image\(s\) in .* the 3 of"):
        read_predictions(path, cases())
    found = read_predictions(path, cases(), unknown_images="ignore")
    assert sum(map(len, found.detections)) == 3
    (note,) = found.notes
    assert "the first is '000009_01_01_001.png': left out." in note


def test_images_without_predictions_are_counted_and_said(tmp_path: Path) -> None:
    found = read_predictions(write(tmp_path / "a.json", ours(ALL[1])), cases())
    assert list(map(len, found.detections)) == [0, 1, 0]
    (note,) = found.notes
    assert note.startswith(
        f"2 of 3 images have no predictions in the file, the first is {NAMES[0]}"
    )


@pytest.mark.parametrize("content", [[], ours()])
def test_a_file_without_any_box_is_named(tmp_path: Path, content: Any) -> None:
    found = read_predictions(write(tmp_path / "a.json", content), cases())
    assert list(map(len, found.detections)) == [0, 0, 0]
    assert found.notes[0].startswith("3 of 3 images have no predictions")


def test_odd_scores_and_flat_boxes_are_named(tmp_path: Path) -> None:
    images = [entry(NAMES[0], [1, 2, 1, 9, 7.5], [1, 2, 3, 4, -1]), *ALL[1:]]
    found = read_predictions(write(tmp_path / "a.json", ours(*images)), cases())
    scores, flat = found.notes
    assert scores.startswith("2 scores are outside [0, 1], the first is [1.0, 2.0, 1.0, 9.0, 7.5]")
    assert flat.startswith("1 boxes have no area (x1 = x2 or y1 = y2)")
    assert len(found.detections[0]) == 2


def test_several_categories_are_named(tmp_path: Path) -> None:
    content = [result(11), result(12, category_id=2), result(13)]
    found = read_predictions(write(tmp_path / "a.json", content), cases())
    assert found.notes == ("category_id takes the values 1, 2: all count as lesions.",)


NAN = float("nan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            ours(entry(NAMES[0], [1, 2, 3, 4, NAN])),
            f"image {NAMES[0]}, box 0: score must be finite",
        ),
        (ours(entry(NAMES[0], [1, NAN, 3, 4, 0.5])), "box 0: corners must be finite"),
        (
            ours(entry(NAMES[0], [1, 2, 3, 4, 0.5], [5, 2, 3, 4, 0.5])),
            "box 1: must have x1 <= x2 and y1 <= y2, got [5.0, 2.0, 3.0, 4.0, 0.5]",
        ),
        (ours(entry(NAMES[0], [1, 2, 3, 4])), "box 0: must be 5 numbers x1, y1, x2, y2 in px and"),
        (ours(entry(NAMES[0], [1, 2, 3, 4, "0.5"])), "box 0: must be numbers, got [1, 2, 3, 4, '0"),
        (ours(entry(NAMES[0], [1, 2, 3, 4, True])), "box 0: must be numbers"),
        (ours(entry(NAMES[0], [1, 2, 3, 4, None])), "box 0: must be numbers"),
        (
            ours(ALL[0], entry("000001_01_01/005.png")),
            f"entry 1 of images is image {NAMES[0]}, as ",
        ),
        (ours({"bboxes": []}), "entry 0 of images must have file_name and a list of bboxes"),
        ({"boxes": []}, "as FROCMetric writes it, or a list of COCO results, got an object of 'b"),
        ([result(11, score=NAN)], "image 11, box 0: score must be finite"),
        ([result(11, score="high")], "image 11, box 0: must be numbers"),
        ([result(11, box=(1, 2, -3, 4))], "entry 0: bbox must have w >= 0 and h >= 0 px"),
        ([result(11, box=(1, 2, 3))], "entry 0: bbox must be 4 numbers x, y, w, h in px"),
        ([result(1.5)], "entry 0: image_id must be a whole number or file name, got 1.5"),
        ([result(11), result(NAMES[0])], f"has image {NAMES[0]} twice, as 11 and '{NAMES[0]}'"),
        ([{"image_id": 11, "bbox": [1, 2, 3, 4]}], "entry 0 must have image_id, bbox and score"),
        (7, "must be a JSON object or list of predictions, got a int"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_predictions(path, cases())
    assert str(path) in str(caught.value)


def test_a_file_cut_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", ours(*ALL))
    text = path.read_text()
    for length in range(1, len(text)):
        path.write_text(text[:length])
        with pytest.raises(DataError, match=r"a\.json is not JSON at line 1, column"):
            read_predictions(path, cases())
    path.write_text(text[:-1])
    with pytest.raises(DataError, match="where the file ends: it was cut"):
        read_predictions(path, cases())


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b" \n", "is empty"), (b'["\xff"]', "is not JSON")]
)
def test_no_json_at_all(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(
        DataError, match=rf"a\.json {message}.*[;:] write it anew, or copy it whole"
    ):
        read_predictions(tmp_path / "a.json", cases())


def test_choices_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown_images must be 'error' or 'ignore', got 'drop'"):
        read_predictions(tmp_path / "a.json", cases(), unknown_images="drop")  # type: ignore[arg-type]


def test_names_must_differ() -> None:
    first, second = (Predictions("A3D", [], (), path) for path in ("x.json", "y.json"))
    unique_names([first, Predictions("TSM", [], ())])
    with pytest.raises(ValueError, match=r"2 predictions are named 'A3D' \(x.json, y.json\)"):
        unique_names([first, second])
