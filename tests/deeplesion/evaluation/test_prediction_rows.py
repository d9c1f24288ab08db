"""Boxes by image out of the two layouts; what is refused is told in ``test_predictions.py``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.datasets.lesion_record import DataError
from deeplesion.evaluation.prediction_rows import coco_rows, our_rows

SIDE = st.floats(0, 500)
BOXES = st.lists(st.tuples(SIDE, SIDE, SIDE, SIDE, st.floats(0, 1)), max_size=4)


@given(BOXES)
def test_both_layouts_agree(boxes: list[tuple[float, ...]]) -> None:
    """A box x, y, w, h is one x, y, x + w, y + h."""
    corners = [[x, y, x + w, y + h, score] for x, y, w, h, score in boxes]
    results = [
        {"image_id": "a/1_1_1/5.png", "bbox": [x, y, w, h], "score": score, "category_id": 1}
        for x, y, w, h, score in boxes
    ]
    ours = our_rows({"images": [{"file_name": "1_1_1_005.png", "bboxes": corners}]}, "a")
    theirs = coco_rows(results, "b")
    nothing = np.empty((0, 5))
    np.testing.assert_array_equal(
        ours.boxes["1_1_1_005.png"], theirs.boxes.get("1_1_1_005.png", nothing)
    )


def test_meta_and_empty_images_are_kept() -> None:
    rows = our_rows({"meta": {"split": "val"}, "images": [{"file_name": "a", "bboxes": []}]}, "a")
    assert rows.meta == {"split": "val"}
    assert rows.boxes["a"].shape == (0, 5)


def test_long_values_are_shortened_in_errors() -> None:
    with pytest.raises(DataError, match=r"got \[0, 0, .*\.\.\.$") as caught:
        our_rows({"images": [{"file_name": "a", "bboxes": [[0] * 1000]}]}, "a")
    assert len(str(caught.value)) < 200
