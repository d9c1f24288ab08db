"""What a lesion tells of its boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.deeplesion.lesions.scans import make_lesions


def test_box_3d_holds_all_boxes() -> None:
    boxes = np.array([[3.5, 2, 9, 8], [4, 1, 8, 8.5]])
    lesion = replace(make_lesions()[1], slices=np.array([4, 7]), boxes=boxes)
    assert lesion.box_3d == (3.5, 1, 4, 9, 8.5, 7)
    assert all(type(side) is float for side in lesion.box_3d)
