"""Tests of what ITK would mend without a word."""

from __future__ import annotations

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplesion.scans import ScanError
from deeplesion.scans.nifti_header import NiftiHeader, check_nifti
from tests.deeplesion.scans.dicom_files import phantom
from tests.deeplesion.scans.helpers import write_image

QFAC, QUATERNION, QOFFSET = 76, 256, 268
PIXDIM_Z, QFORM_CODE, SFORM_CODE, SROW = 88, 252, 254, 280


@pytest.fixture
def content(tmp_path: Path) -> bytearray:
    """A NIfTI file of 1 mm voxels."""
    return bytearray(write_image(tmp_path / "sound.nii", phantom((4, 5, 6))).read_bytes())


def checked(path: Path, content: bytes) -> list[str]:
    """Warnings about a file of that content."""
    path.write_bytes(content)
    return check_nifti(path)


def test_reads_both_byte_orders_and_versions() -> None:
    little, big, second = bytearray(540), bytearray(540), bytearray(540)
    for head, order in ((little, "<"), (big, ">")):
        struct.pack_into(f"{order}i", head, 0, 348)
        struct.pack_into(f"{order}8h", head, 40, 3, 7, 8, 9, 1, 1, 1, 1)
        struct.pack_into(f"{order}2h", head, 70, 16, 32)
        struct.pack_into(f"{order}8f", head, 76, 1, 0.5, 0.5, 2, 0, 0, 0, 0)
        struct.pack_into(f"{order}2h", head, 252, 1, 2)
    struct.pack_into("<i", second, 0, 540)
    struct.pack_into("<2h", second, 12, 16, 32)
    struct.pack_into("<8q", second, 16, 3, 7, 8, 9, 1, 1, 1, 1)
    struct.pack_into("<8d", second, 104, 1, 0.5, 0.5, 2, 0, 0, 0, 0)
    struct.pack_into("<2i", second, 344, 1, 2)
    for head in (little, big, second):
        header = NiftiHeader.parse(bytes(head))
        assert header.dim[:4] == (3, 7, 8, 9)
        assert (header.datatype, header.bits, header.pixdim) == (16, 32, (0.5, 0.5, 2))
        assert (header.qform_code, header.sform_code) == (1, 2)


@pytest.mark.parametrize(
    "head",
    [
        bytes(540),
        struct.pack("<i", 348) + bytes(50),
        struct.pack("<i", 348) + bytes(104) + struct.pack("<f", 1e30) + bytes(428),
        struct.pack("<i", 348) + bytes(104) + struct.pack("<f", float("nan")) + bytes(428),
    ],
)
def test_refuses_a_damaged_header(head: bytes) -> None:
    with pytest.raises(ScanError, match="header is truncated or damaged"):
        NiftiHeader.parse(head)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_impossible_spacing(tmp_path: Path, content: bytearray, value: float) -> None:
    struct.pack_into("<f", content, PIXDIM_Z, value)
    with pytest.raises(ScanError, match=rf"spacing must be > 0 mm, got 1, 1, {value:g} \(pixdim"):
        checked(tmp_path / "a.nii", content)


def test_refuses_a_header_that_contradicts_itself(tmp_path: Path, content: bytearray) -> None:
    struct.pack_into("<f", content, PIXDIM_Z, 5.0)
    with pytest.raises(ScanError, match="1, 1, 5 mm by its pixdim, 1, 1, 1 by its sform"):
        checked(tmp_path / "a.nii", content)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (SROW, 1.0),  # ITK's own axes are -1, -1, 1
        (QFAC, -1.0),
        (QUATERNION, 1.0),
        (QOFFSET, 0.6),
        (QOFFSET, float("nan")),
        (QUATERNION, float("nan")),
    ],
)
def test_refuses_a_qform_that_contradicts_the_sform(
    tmp_path: Path, content: bytearray, place: int, value: float
) -> None:
    struct.pack_into("<f", content, place, value)
    with pytest.raises(
        ScanError, match=r"put the same voxel .* voxels apart.* \(fslorient -copyqform2sform"
    ):
        checked(tmp_path / "a.nii", content)
    struct.pack_into("<h", content, QFORM_CODE, 0)  # who does not give two cannot contradict
    assert checked(tmp_path / "a.nii", content) == []


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
    mirrored=st.booleans(),
)
def test_takes_every_qform_that_itk_writes_beside_an_sform(
    angles: tuple, spacing: tuple, mirrored: bool
) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6), np.int16))
    turn = SimpleITK.Euler3DTransform((0, 0, 0), *angles).GetMatrix()
    direction = np.reshape(turn, (3, 3)) * [1, 1, -1 if mirrored else 1]
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing(spacing)
    image.SetOrigin((-250.5, 130.25, -1200))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nii")
        SimpleITK.WriteImage(image, str(path))
        header = NiftiHeader.parse(path.read_bytes())
        assert header.qform_code > 0 < header.sform_code
        assert check_nifti(path) == []


def test_refuses_positions_that_are_not_finite(tmp_path: Path, content: bytearray) -> None:
    struct.pack_into("<f", content, SROW + 12, float("nan"))
    with pytest.raises(ScanError, match="sform of the NIfTI header must be finite"):
        checked(tmp_path / "a.nii", content)
    struct.pack_into("<h", content, SFORM_CODE, 0)
    struct.pack_into("<f", content, 268, float("inf"))
    with pytest.raises(ScanError, match="origin in the NIfTI header must be finite"):
        checked(tmp_path / "a.nii", content)


def test_warns_where_the_orientation_is_unknown(tmp_path: Path, content: bytearray) -> None:
    assert checked(tmp_path / "a.nii", content) == []
    struct.pack_into("<2h", content, QFORM_CODE, 0, 0)
    (warning,) = checked(tmp_path / "a.nii", content)
    assert "qform_code and sform_code are 0" in warning


def test_refuses_what_ends_early(tmp_path: Path, content: bytearray) -> None:
    with pytest.raises(ScanError, match="truncated: 500 of 592 bytes"):
        checked(tmp_path / "a.nii", content[:500])
    packed = gzip.compress(content)
    with pytest.raises(ScanError, match="truncated or damaged: Compressed file ended"):
        checked(tmp_path / "a.nii.gz", packed[: len(packed) // 2])
    with pytest.raises(ScanError, match="truncated: 500 of 592 bytes"):
        checked(tmp_path / "a.nii.gz", gzip.compress(content[:500]))
    damaged = bytearray(packed)
    damaged[-6] ^= 1
    with pytest.raises(ScanError, match="CRC"):
        checked(tmp_path / "a.nii.gz", damaged)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_counts_voxels_that_are_not_finite(tmp_path: Path, name: str, dtype: type) -> None:
    # ITK would give zeros for them.
    values = phantom((4, 5, 6)).astype(dtype)
    values[1, 2, 3:5] = np.nan, -np.inf
    image = SimpleITK.GetImageFromArray(values)
    SimpleITK.WriteImage(image, str(tmp_path / name), imageIO="NiftiImageIO")
    with pytest.raises(ScanError, match="2 of 120 voxels are NaN or infinite"):
        check_nifti(tmp_path / name)


def test_a_header_without_its_voxels(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(phantom((4, 5, 6)))
    SimpleITK.WriteImage(image, str(tmp_path / "a.hdr"), imageIO="NiftiImageIO")
    assert check_nifti(tmp_path / "a.hdr") == []
    (tmp_path / "a.img").unlink()
    with pytest.raises(ScanError, match=r"its voxels, a\.img, are not beside it"):
        check_nifti(tmp_path / "a.hdr")
