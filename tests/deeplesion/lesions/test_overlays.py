"""Pictures of lesions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.overlays import (
    AXES_COLOR,
    BOX_COLOR,
    CONTOUR_COLOR,
    draw_close_up,
    draw_lesion,
    generator_line,
    write_overlays,
)
from deeplesion.scans.scan import Scan
from tests.deeplesion.lesions.page_material import SECRET, make_document, make_lesions, make_scan

HEIGHT, CLOSE_UP = 768, 380
SOFT_TISSUE = (-160.0, 240.0)
Found = tuple[Scan, list[Lesion], dict[str, Any]]


@pytest.fixture(scope="module")
def found() -> Found:
    """A scan, its lesions and their document."""
    scan, lesions = make_scan(), make_lesions()
    return scan, lesions, make_document(scan, lesions)


def near(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has about some color, whose lines are blended at their edges."""
    return np.abs(picture.astype(int) - color).max(axis=-1) < 40


def test_the_key_slice_is_whole_and_in_proportion(found: Found) -> None:
    scan, lesions, document = found
    picture = draw_lesion(scan, lesions[0], document["lesions"][0])
    # 60 x 40 voxels of 0.7 x 1.4 mm, and the strip of two lines below.
    width = round(HEIGHT * (60 * 0.7) / (40 * 1.4))
    assert picture.shape == (HEIGHT + 48, width + 8 + CLOSE_UP, 3)
    columns = np.flatnonzero(near(picture[HEIGHT // 2, :width], BOX_COLOR))
    # The box spans from the edge of column 24 to that of column 33.
    scale = width / 60
    assert columns.min() == pytest.approx(24 * scale, abs=2)
    assert columns.max() == pytest.approx(34 * scale, abs=2)


def test_windows_are_chosen_or_given(found: Found) -> None:
    scan, lesions, document = found
    lung = draw_lesion(scan, lesions[0], document["lesions"][0])
    # -850 HU of -1350 to 150 HU is a third of white, and black in soft tissue.
    place = lung[HEIGHT // 2 + 60, HEIGHT * 3 // 8 - 120, 0]
    assert 70 < place < 100
    given = draw_lesion(scan, lesions[0], document["lesions"][0], SOFT_TISSUE)
    assert given[HEIGHT // 2 + 60, HEIGHT * 3 // 8 - 120].max() < 5
    with pytest.raises(ValueError, match="window must be"):
        draw_lesion(scan, lesions[0], document["lesions"][0], (100, 100))


def test_close_ups_show_mask_and_axes_of_the_measured_slice(found: Found) -> None:
    scan, lesions, document = found
    record = document["lesions"][0]
    picture = draw_close_up(scan, lesions[0], record, SOFT_TISSUE)
    assert picture.shape == (CLOSE_UP, CLOSE_UP, 3)
    for color in (BOX_COLOR, AXES_COLOR, CONTOUR_COLOR):
        assert near(picture, color).any()
    # 50 mm across, the lesion's center in the middle.
    rows, columns = np.nonzero(near(picture, AXES_COLOR))
    lengths = [axis["mm"] for axis in (record["long_axis"], record["short_axis"])]
    extent = np.hypot(np.ptp(rows), np.ptp(columns)) * 50 / CLOSE_UP
    assert extent == pytest.approx(np.hypot(*lengths), rel=0.1)
    assert rows.mean() == pytest.approx(CLOSE_UP / 2, abs=4)
    bare = replace(lesions[0], masks=())
    assert not near(draw_close_up(scan, bare, record, SOFT_TISSUE), CONTOUR_COLOR).any()


def test_what_lies_beyond_the_slice_is_black(found: Found) -> None:
    scan, lesions, document = found
    bright = replace(scan, hu=np.full_like(scan.hu, 240))
    picture = draw_close_up(bright, lesions[1], document["lesions"][1], SOFT_TISSUE)
    # 50 mm about a lesion 6.3 mm from the left edge.
    edge = round((25 - 6.3) * CLOSE_UP / 50)
    assert (picture[100, : edge - 2] == 0).all()
    assert (picture[100, edge + 2 :] == 255).all()


def test_a_record_of_another_lesion_is_refused(found: Found) -> None:
    scan, lesions, document = found
    with pytest.raises(ValueError, match=r"measured_slice of lesion 2 must be one of its slices"):
        draw_close_up(scan, lesions[1], document["lesions"][2], SOFT_TISSUE)


def test_files_are_named_by_number_and_slice(found: Found, tmp_path: Path) -> None:
    scan, lesions, document = found
    paths = write_overlays(tmp_path / "overlays", scan, lesions, document)
    names = ["lesion_01_slice_0010.png", "lesion_02_slice_0004.png", "lesion_03_slice_0010.png"]
    assert [path.name for path in paths] == [*names, "lesions.png"]
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == sorted(
        path.name for path in paths
    )
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in paths)
    sheet = cv2.imread(str(paths[-1]))
    assert sheet.shape[1] == 3 * CLOSE_UP + 2 * 8


def test_without_lesions_there_is_nothing_to_draw(tmp_path: Path) -> None:
    scan = make_scan()
    assert write_overlays(tmp_path / "a", scan, [], make_document(scan, [])) == []


def test_what_made_a_picture_is_told(found: Found) -> None:
    line = generator_line(found[2])
    assert line.startswith("deeplesion-alignshift 9.8.7, checkpoint epoch_20.pth (sha256 abab")
    assert "config config_of_test.py (sha256 c0c0" in line
    scan, lesions, document = found
    plain = draw_lesion(scan, lesions[0], document["lesions"][0])
    told = draw_lesion(scan, lesions[0], document["lesions"][0], made_by=line)
    assert len(told) > len(plain)
