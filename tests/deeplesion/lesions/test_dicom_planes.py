"""Positions in the patient as pixels of DICOM images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from deeplesion.datasets.lesion_record import DataError
from deeplesion.lesions.dicom_planes import nearest_plane, read_planes
from tests.deeplesion.lesions.dicom_series import SHUFFLED, write_multi_frame, write_series


def test_pixels_by_hand(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    planes = read_planes(scan.files)
    position = scan.geometry.to_patient([12, 7.5, 4])
    plane = nearest_plane(planes, position[None], 0.1)
    assert plane.file == scan.files[4]
    assert plane.frame is None
    assert plane.to_pixels(position) == pytest.approx([12.5, 8])  # (0, 0) is a pixel's corner
    assert planes[3].distance(position) == pytest.approx(3)


def test_pixels_of_flipped_images(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED, flipped=True)
    position = scan.geometry.to_patient([12, 7.5, 4])
    plane = nearest_plane(read_planes(scan.files), position[None], 0.1)
    assert plane.to_pixels(position) == pytest.approx([29 - 12 + 0.5, 19 - 7.5 + 0.5])


def test_frames_are_counted_from_one(tmp_path: Path) -> None:
    scan = write_multi_frame(tmp_path, SHUFFLED)
    planes = read_planes(scan.files * 2)
    assert len(planes) == 6
    position = scan.geometry.to_patient([12, 7.5, 5])
    plane = nearest_plane(planes, position[None], 0.1)
    assert plane.frame == 3
    assert plane.to_pixels(position) == pytest.approx([12.5, 8])


def test_frames_of_other_phases_are_left_out(tmp_path: Path) -> None:
    scan = write_multi_frame(tmp_path, [0, 1, 2, 0, 1, 2])
    position = scan.geometry.to_patient([12, 7.5, 1])
    for frames, expected in (((1, 2, 3), 2), ((4, 5, 6), 5)):
        planes = read_planes(scan.files, frames)
        assert [plane.frame for plane in planes] == list(frames)
        assert nearest_plane(planes, position[None], 0.1).frame == expected


def test_frames_are_those_of_their_files(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files += write_multi_frame(tmp_path / name, [0, 1]).files
    planes = read_planes([files[0], files[1]], [2, 1])
    assert [(plane.file, plane.frame) for plane in planes] == [(files[0], 2), (files[1], 1)]
    assert len(read_planes(files, [2])) == 4  # of which file it is is not told


def test_positions_off_every_plane_are_refused(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    far = scan.geometry.to_patient(np.array([[0, 0, 8]]))
    with pytest.raises(DataError, match="no file of the series lies where a lesion was measured"):
        nearest_plane(read_planes(scan.files), far, 1.5)
    with pytest.raises(DataError, match="no file of the series"):
        nearest_plane([], far, 1.5)


def test_files_without_preamble(tmp_path: Path) -> None:
    scan, files = write_series(tmp_path, SHUFFLED)
    expected = [plane.position.tolist() for plane in read_planes(scan.files)]
    for file in files:
        header = dcmread(file)
        header.preamble = None
        del header.file_meta
        header.save_as(file, implicit_vr=True, little_endian=True)
    assert [plane.position.tolist() for plane in read_planes(scan.files)] == expected


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    scan, _ = write_series(tmp_path, SHUFFLED)
    header = dcmread(scan.files[0])
    del header.PixelSpacing
    header.save_as(scan.files[0])
    with pytest.raises(DataError, match=r"image_1\.dcm has no PixelSpacing"):
        read_planes(scan.files)
    scan.files[0].write_text("no DICOM")
    with pytest.raises(DataError, match=r"image_1\.dcm is no DICOM file"):
        read_planes(scan.files)
    with pytest.raises(FileNotFoundError):
        read_planes([tmp_path / "gone.dcm"])
