"""Boxes in order, and the legend."""

from __future__ import annotations

import numpy as np

from deeplesion.canvas import STRIP_ROW, STYLES, Item, captions, draw_items, legend


def color(kind: str) -> list[int]:
    return list(STYLES[kind].color)


def has(image: np.ndarray, kind: str) -> bool:
    return bool((image == color(kind)).all(axis=-1).any())


def test_lesions_lie_on_top_of_predictions() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    box = np.array([10.0, 10, 30, 30])
    draw_items(picture, [Item("lesion missed", box), Item("hit", box)], 1)
    assert picture[10, 10].tolist() == color("lesion missed")  # whatever the order given


def test_legend_counts_and_wraps() -> None:
    wide = legend(["hit"], "", 768)
    assert len(legend(["hit"], "", 300)) > len(wide)
    assert len(legend(["hit"], "caption", 768)) > len(wide)
    assert not has(wide, "duplicate")
    assert has(legend(["duplicate"], "", 768), "duplicate")
    assert not np.array_equal(legend(["hit"] * 2, "", 768), wide)


def test_boxes_beyond_the_picture_are_cut_off() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    items = [
        Item("hit", np.array([-20.0, -20, 10, 10]), "0.90"),
        Item("lesion found", np.array([50.0, 50, 90, 90])),
    ]
    draw_items(picture, items, 1)
    assert picture[10, 5].tolist() == color("hit")
    assert picture[50, 50].tolist() == color("lesion found")
    assert picture[30, 30].tolist() == [0, 0, 0]


def test_captions_are_broken_between_words() -> None:
    assert captions([], 200).shape == (0, 200, 3)
    assert captions(["short", "lines"], 200).shape == (2 * STRIP_ROW, 200, 3)
    long = "checkpoint epoch_20.pth config mask-rcnn.py"
    assert len(captions([long], 240)) == 2 * STRIP_ROW
    assert len(captions([long], 2000)) == STRIP_ROW
    # The last words stand alone in the last row.
    rows = captions([long], 240)[STRIP_ROW:], captions(["config mask-rcnn.py"], 240)
    assert np.array_equal(*rows)
    assert len(captions(["x" * 200], 100)) == STRIP_ROW
