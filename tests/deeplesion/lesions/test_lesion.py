"""What a lesion tells of its boxes."""

from __future__ import annotations

import numpy as np

from deeplesion.lesions.lesion import Lesion


def test_box_3d_holds_all_boxes() -> None:
    lesion = Lesion(
        number=1,
        score=0.9,
        slices=np.array([4, 7]),
        boxes=np.array([[3.5, 2, 9, 8], [4, 1, 8, 8.5]]),
        scores=np.array([0.9, 0.1]),
        masks=(),
        key_slice=4,
    )
    assert lesion.box_3d == (3.5, 1, 4, 9, 8.5, 7)
    assert all(type(side) is float for side in lesion.box_3d)
