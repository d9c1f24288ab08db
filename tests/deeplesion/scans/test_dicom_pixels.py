"""Tests of stored values to HU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import DataElement
from pydicom.dataset import Dataset

from deeplesion.scans.dicom_headers import read_headers
from deeplesion.scans.dicom_pixels import is_whole, read_hu, same_pixels, stored_values
from tests.deeplesion.scans.dicom_files import axial_geometry, phantom, write_dicom_series

HU = phantom((1, 6, 8))
GEOMETRY = axial_geometry(HU.shape)
PADDING, LIMIT = 0x00280120, 0x00280121


def hu_of(folder: Path, hu: np.ndarray = HU, dtype: Any = np.int16, **options: Any) -> np.ndarray:
    """A slice written and read."""
    (item,) = read_headers(write_dicom_series(folder, hu, GEOMETRY, **options)).slices
    out = np.empty(hu.shape[1:], dtype)
    read_hu(item, out)
    return out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"signed": True, "intercept": 0},
        {"bits": 12},
        {"bits": 12, "signed": True, "intercept": 0},
        {"intercept": -8192},
        {"slope": 2, "intercept": 0, "signed": True},
    ],
)
def test_rescaling(tmp_path: Path, options: dict[str, Any]) -> None:
    even = HU // 2 * 2
    assert np.array_equal(hu_of(tmp_path, even, **options), even[0])


def test_fractions(tmp_path: Path) -> None:
    hu = HU + np.float32(0.5)
    found = hu_of(tmp_path, hu, np.float32, slope=0.5)
    assert np.array_equal(found, hu[0])


def test_which_slices_are_whole(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "a", HU, GEOMETRY, slope=0.5)
    files += write_dicom_series(tmp_path / "b", HU, GEOMETRY, slope=2)
    assert [is_whole(item) for item in read_headers(files).slices] == [False, True]


def test_bits_that_are_not_stored_ones_are_cleared(tmp_path: Path) -> None:
    def overlay(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, np.uint16) | 0xF000
        dataset.PixelData = values.tobytes()

    assert np.array_equal(hu_of(tmp_path, bits=12, edit=overlay), HU[0])


def test_the_sign_of_fewer_bits_is_extended(tmp_path: Path) -> None:
    def cleared(dataset: Dataset, index: int) -> None:
        values = np.frombuffer(dataset.PixelData, np.uint16) & 0x0FFF
        dataset.PixelData = values.tobytes()

    found = hu_of(tmp_path, bits=12, signed=True, intercept=0, edit=cleared)
    assert found.min() < -900
    assert np.array_equal(found, HU[0])


@pytest.mark.parametrize(
    ("representation", "value", "intercept"),
    [("SS", -2000, 0), ("US", 63536, 0), ("SS", -976, -1024)],
)
def test_padding_becomes_air(
    tmp_path: Path, representation: str, value: int, intercept: float
) -> None:
    hu = HU.copy()
    hu[:, :2] = -2000

    def pad(dataset: Dataset, index: int) -> None:
        dataset.add(DataElement(PADDING, representation, value))

    found = hu_of(tmp_path, hu, signed=True, intercept=intercept, edit=pad)
    assert np.all(found[:2] == -1024)
    assert np.array_equal(found[2:], HU[0, 2:])


def test_a_range_of_padding_becomes_air(tmp_path: Path) -> None:
    hu = HU.copy()
    hu[:, 0], hu[:, 1], hu[:, 2] = -2000, -1950, -1900

    def pad(dataset: Dataset, index: int) -> None:
        dataset.add(DataElement(PADDING, "SS", -2000))
        dataset.add(DataElement(LIMIT, "SS", -1950))

    found = hu_of(tmp_path, hu, signed=True, intercept=0, edit=pad)
    assert np.unique(found[:2]).tolist() == [-1024]
    assert np.unique(found[2]).tolist() == [-1900]


def test_padding_among_the_values_of_tissue_is_left_and_told(tmp_path: Path) -> None:
    hu = np.where(np.arange(8) < 4, 0, HU).astype(np.int16)

    def zero(dataset: Dataset, index: int) -> None:
        dataset.add(DataElement(PADDING, "SS", 0))

    files = write_dicom_series(tmp_path, hu, GEOMETRY, signed=True, intercept=0, edit=zero)
    out = np.empty(hu.shape[1:], np.int16)
    assert read_hu(read_headers(files).slices[0], out)
    assert np.array_equal(out, hu[0])


def test_values_beyond_int16_saturate(tmp_path: Path) -> None:
    hu = np.full((1, 6, 8), 60000, np.int32)
    assert np.unique(hu_of(tmp_path, hu)).tolist() == [32767]


def test_same_pixels(tmp_path: Path) -> None:
    files = write_dicom_series(tmp_path / "a", HU, GEOMETRY)
    files += write_dicom_series(tmp_path / "b", HU, GEOMETRY, compression="RLE")
    files += write_dicom_series(tmp_path / "c", HU + 1, GEOMETRY)
    files += write_dicom_series(tmp_path / "d", HU + 1, GEOMETRY, intercept=-1023)
    first, packed, other, moved = read_headers(files).slices
    assert same_pixels(first, packed)
    assert not same_pixels(first, other)
    assert np.array_equal(stored_values(first), stored_values(moved))
    assert not same_pixels(first, moved)
