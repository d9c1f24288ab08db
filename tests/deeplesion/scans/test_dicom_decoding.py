"""Tests of decoding pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders import HTJ2KLosslessDecoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, HTJ2KLossless, ImplicitVRLittleEndian

from deeplesion.scans import ScanError
from deeplesion.scans.dicom_decoding import decode
from deeplesion.scans.dicom_headers import read_headers
from tests.deeplesion.scans.dicom_files import (
    COMPRESSIONS,
    axial_geometry,
    phantom,
    write_dicom_series,
    write_multi_frame,
)

HU = phantom((3, 16, 20))
GEOMETRY = axial_geometry(HU.shape)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_every_syntax(tmp_path: Path, compression: str | None, signed: bool) -> None:
    intercept = 0 if signed else -1024
    files = write_dicom_series(
        tmp_path, HU, GEOMETRY, compression=compression, signed=signed, intercept=intercept
    )
    for plane, item in zip(HU, read_headers(files).slices, strict=True):
        pixels = decode(item)
        assert pixels.dtype.kind == ("i" if signed else "u")
        assert np.array_equal(pixels.astype(np.int32) + intercept, plane)


@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_every_syntax_of_frames(tmp_path: Path, compression: str | None) -> None:
    path = write_multi_frame(tmp_path / "a.dcm", HU, GEOMETRY, compression=compression)
    planes = [decode(item).astype(np.int32) - 1024 for item in read_headers([path]).slices]
    assert np.array_equal(planes, HU)


def test_uncompressed_syntaxes_of_other_layout(tmp_path: Path) -> None:
    for syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        (path, *_) = write_dicom_series(tmp_path / syntax, HU, GEOMETRY)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        (item,) = read_headers([path]).slices
        assert np.array_equal(decode(item).astype(np.int32) - 1024, HU[0])


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_files_without_preamble_and_meta_information(
    tmp_path: Path, implicit: bool, little: bool
) -> None:
    (path, *_) = write_dicom_series(tmp_path, HU, GEOMETRY)
    stored, bare = pydicom.dcmread(path), pydicom.Dataset()
    for element in stored:
        bare.add(element)
    if not little:
        bare.PixelData = stored.pixel_array.byteswap().tobytes()
    bare.save_as(path, implicit_vr=implicit, little_endian=little)
    assert path.read_bytes()[:2] == (b"\x08\x00" if little else b"\x00\x08")
    (item,) = read_headers([path]).slices
    assert np.array_equal(decode(item).astype(np.int32) - 1024, HU[0])


@pytest.mark.parametrize("compression", [None, *COMPRESSIONS])
def test_a_truncated_file_is_named(tmp_path: Path, compression: str | None) -> None:
    path = write_dicom_series(tmp_path, HU, GEOMETRY, compression=compression)[1]
    path.write_bytes(path.read_bytes()[:-150])
    (item,) = read_headers([path]).slices
    with pytest.raises(ScanError, match="pixels are truncated or damaged") as caught:
        decode(item)
    assert str(path) in str(caught.value)


def test_what_nothing_decodes_is_named_with_the_package(tmp_path: Path) -> None:
    if HTJ2KLosslessDecoder.is_available:
        pytest.skip("High-Throughput JPEG 2000 can be decoded here")
    path = write_dicom_series(tmp_path, HU, GEOMETRY)[0]
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([b"abcd"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    (item,) = read_headers([path]).slices
    message = "High-Throughput JPEG 2000 .* pip install pylibjpeg pylibjpeg-openjpeg"
    with pytest.raises(ScanError, match=message):
        decode(item)


def test_refuses_pixels_of_another_size_than_the_header_says(tmp_path: Path) -> None:
    (item, *_) = read_headers(write_dicom_series(tmp_path, HU, GEOMETRY)).slices
    with pytest.raises(ScanError, match=r"pixels \(16, 20\), by its header \(8, 20\)"):
        decode(replace(item, size=(20, 8)))
