"""Sheets of pictures, and files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deeplesion.pictures import montage, save_image


def test_montage() -> None:
    red = np.full((10, 20, 3), (255, 0, 0), np.uint8)
    small = np.full((6, 20, 3), (0, 255, 0), np.uint8)
    sheet = montage([red, small, red], columns=2, gap=4, background=200)
    assert sheet.shape == (24, 44, 3)
    assert sheet[0, 0].tolist() == [255, 0, 0]
    assert sheet[0, 22].tolist() == [200, 200, 200]
    assert sheet[1, 30].tolist() == [200, 200, 200]
    assert sheet[2, 30].tolist() == [0, 255, 0]
    assert sheet[14, 0].tolist() == [255, 0, 0]
    assert sheet[20, 30].tolist() == [200, 200, 200]
    assert montage([red], columns=5).shape == red.shape
    with pytest.raises(ValueError, match="at least one picture, got none"):
        montage([], 2)
    with pytest.raises(ValueError, match="columns must be >= 1, got 0"):
        montage([red], 0)


def test_saved_pictures_keep_their_colors(tmp_path: Path) -> None:
    save_image(tmp_path / "new" / "a.png", np.full((4, 4, 3), (255, 10, 0), np.uint8))
    assert cv2.imread(str(tmp_path / "new" / "a.png"))[0, 0].tolist() == [0, 10, 255]
