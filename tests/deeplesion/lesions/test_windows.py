"""In which window a lesion is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeplesion.lesions.windows import surroundings, window_of, window_range
from tests.deeplesion.lesions.page_material import make_lesion, make_scan


def test_ranges() -> None:
    assert window_range("lung") == (-1350, 150)
    assert window_range("soft tissue") == (-160, 240)
    assert window_range("bone") == (-500, 1300)


@pytest.mark.parametrize(
    ("around", "inside", "window"),
    [
        (-850, 20, "lung"),
        (40, 20, "soft tissue"),
        (40, -20, "soft tissue"),
        (-1000, 40, "soft tissue"),  # at the skin
        (600, 100, "bone"),
        (40, 900, "soft tissue"),  # something dense, no bone around it
    ],
)
def test_what_is_around_chooses_the_window(around: int, inside: int, window: str) -> None:
    scan = make_scan()
    hu = np.full_like(scan.hu, around)
    lesion = make_lesion(1, 0.9, (20, 10, 25, 15), range(3, 4), 3)
    hu[3, 10:14, 20:24] = inside
    assert window_of(replace(scan, hu=hu), lesion) == window


def test_surroundings_are_twice_as_large_and_cut_off_at_the_edge() -> None:
    scan = make_scan()
    lesion = make_lesion(1, 0.9, (20, 10, 29, 13), range(3, 4), 3)
    assert surroundings(scan, lesion).tolist() == scan.hu[3, 8:16, 15:35].tolist()
    corner = make_lesion(1, 0.9, (0, 0, 9, 3), range(3, 4), 3)
    assert surroundings(scan, corner).tolist() == scan.hu[3, 0:6, 0:15].tolist()


def test_a_box_outside_of_its_slice_is_named() -> None:
    lesion = make_lesion(4, 0.9, (200, 10, 209, 13), range(3, 4), 3)
    with pytest.raises(ValueError, match=r"lesion 4 must lie in its slice, got .* in 60 x 40 px"):
        surroundings(make_scan(), lesion)
