"""Label maps of the small scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeplesion.lesions.label_maps import label_map
from deeplesion.lesions.lesion import SliceMask
from tests.deeplesion.lesions.scans import SHAPE, make_lesions


def test_masks_and_ellipses_are_marked_by_number() -> None:
    labels = label_map(make_lesions(), SHAPE)
    assert labels.dtype == np.uint16
    assert labels.shape == SHAPE
    expected = np.zeros(SHAPE, bool)
    expected[2:4, 5:9, 4:14] = True
    assert ((labels == 1) == expected).all()
    z, y, x = np.nonzero(labels == 2)
    assert (set(z.tolist()), y.min(), y.max(), x.min(), x.max()) == ({0, 1}, 10, 15, 20, 29)
    assert labels[0, 10, 20] == 0  # the corner of a box is not in its ellipse


def test_the_better_lesion_stays_on_top_in_any_order() -> None:
    first, second = make_lesions()
    shifted = tuple(SliceMask(8, 6, np.ones((6, 10), bool)) for _ in range(2))
    second = replace(first, number=2, masks=shifted)
    for order in ([first, second], [second, first]):
        labels = label_map(order, SHAPE)
        assert (labels == 1).sum() == 80
        assert (labels == 2).sum() == 2 * (60 - 6 * 3)


def test_only_the_largest_component_is_marked() -> None:
    pixels = np.ones((4, 10), bool)
    pixels[:, 7] = False
    lesion = replace(make_lesions()[0], masks=(SliceMask(4, 5, pixels),) * 2)
    assert (label_map([lesion], SHAPE) > 0).sum() == 2 * 28


def test_no_lesions_give_an_empty_map() -> None:
    assert not label_map([], SHAPE).any()


@pytest.mark.parametrize("number", [0, 65536])
def test_numbers_must_fit(number: int) -> None:
    with pytest.raises(ValueError, match=f"must be in 1 to 65535 for a label map, got {number}"):
        label_map([replace(make_lesions()[0], number=number)], SHAPE)


def test_lesion_of_another_scan_is_refused() -> None:
    with pytest.raises(ValueError, match="lesion 1 is on slices 2 to 3 of a scan of 3"):
        label_map(make_lesions(), (3, 20, 30))
