"""What is wrong with a NIfTI file and ITK mends without a word.

ITK fills what is missing of a truncated file with zeros, puts zeros for NaN, and makes spacing of
0 or NaN into 1. Of a qform and an sform that differ it takes one. Layout of headers: nifti1.h and
nifti2.h of https://nifti.nimh.nih.gov.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplesion.scans.scan import ScanError

GZIP = b"\x1f\x8b"
_HEADER_BYTES = 540
_MAX_OFFSET = 1 << 40
_CHUNK = 1 << 20
_FLOATS = {16: "f4", 64: "f8"}
_BITS_PER_BYTE = 8
#: How far pixdim and the lengths of the sform's columns may be apart, relatively.
_SAME_SCALE = 0.01
#: How far apart in voxels qform and sform may put a corner.
_SAME_PLACE = 0.5


@dataclass(frozen=True)
class _Layout:
    """Where the fields of a version stand, and their types."""

    dim: tuple[int, str]
    datatype: int
    pixdim: tuple[int, str]
    vox_offset: tuple[int, str]
    codes: tuple[int, str]
    quaternion: tuple[int, str]
    qoffset: tuple[int, str]
    srow: tuple[int, str]


_LAYOUTS = {
    348: _Layout(
        (40, "8h"), 70, (76, "8f"), (108, "f"), (252, "2h"), (256, "3f"), (268, "3f"), (280, "12f")
    ),
    540: _Layout(
        (16, "8q"), 12, (104, "8d"), (168, "q"), (344, "2i"), (352, "3d"), (376, "3d"), (400, "12d")
    ),
}


@dataclass(frozen=True)
class NiftiHeader:
    """What of the header is looked at.

    Attributes:
        dim: Number of axes, and their lengths.
        datatype, bits: Of a voxel.
        pixdim: Spacing along x, y and z.
        qfac: Whether z of the qform is mirrored: it is if negative.
        vox_offset: Where voxels begin.
        qform_code, sform_code: Whether the header says how the patient lies.
        quaternion, qoffset, srow: Of these two.
        order: Byte order, ``<`` or ``>``.
    """

    dim: tuple[int, ...]
    datatype: int
    bits: int
    pixdim: tuple[float, ...]
    qfac: float
    vox_offset: int
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: tuple[float, ...]
    order: str

    @classmethod
    def parse(cls, head: bytes) -> NiftiHeader:
        """Read the first bytes of a file.

        Raises:
            ScanError: They are no NIfTI header.
        """
        for order in "<>":
            layout = _LAYOUTS.get(struct.unpack_from(f"{order}i", head)[0])
            if layout is None:
                continue

            def field(place: tuple[int, str], order: str = order) -> tuple:
                return struct.unpack_from(order + place[1], head, place[0])

            try:
                datatype, bits = field((layout.datatype, "2h"))
                offset = int(field(layout.vox_offset)[0])
                if not 0 <= offset <= _MAX_OFFSET:
                    break
                return cls(
                    dim=field(layout.dim),
                    datatype=datatype,
                    bits=bits,
                    pixdim=field(layout.pixdim)[1:4],
                    qfac=field(layout.pixdim)[0],
                    vox_offset=offset,
                    qform_code=field(layout.codes)[0],
                    sform_code=field(layout.codes)[1],
                    quaternion=field(layout.quaternion),
                    qoffset=field(layout.qoffset),
                    srow=field(layout.srow),
                    order=order,
                )
            except (struct.error, ValueError, OverflowError):
                break
        raise ScanError("its NIfTI header is truncated or damaged; copy it again")


def check_nifti(path: Path) -> list[str]:
    """Check the header, that the file is whole, and that its numbers are finite.

    Args:
        path: A NIfTI file, gzipped or not, or the header of a pair.

    Returns:
        Warnings.

    Raises:
        ScanError: Something is wrong; it says what to do.
    """
    try:
        with _unpacked(path) as stream:
            head = stream.read(_HEADER_BYTES)
        header = NiftiHeader.parse(head)
        _check_geometry(header)
        _check_voxels(_voxel_file(path), header)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ScanError(f"it is truncated or damaged: {error}; copy it again") from error
    if header.qform_code == 0 and header.sform_code == 0:
        return [
            "the NIfTI header does not say how the patient lies (qform_code and sform_code are 0): "
            "left and right, head and feet may be wrong"
        ]
    return []


def _check_geometry(header: NiftiHeader) -> None:
    spacing = header.pixdim[: max(1, min(3, header.dim[0]))]
    shown = ", ".join(f"{value:g}" for value in spacing)
    if not all(value > 0 and np.isfinite(value) for value in spacing):
        raise ScanError(
            f"spacing must be > 0 mm, got {shown} (pixdim of the NIfTI header); mend the header"
        )
    if header.sform_code > 0:
        affine = np.array(header.srow).reshape(3, 4)
        if not np.isfinite(affine).all():
            raise ScanError("the sform of the NIfTI header must be finite; mend the header")
        scales = np.linalg.norm(affine[:, : len(spacing)], axis=0)
        if not np.allclose(scales, spacing, rtol=_SAME_SCALE, atol=0):
            lengths = ", ".join(f"{value:g}" for value in scales)
            raise ScanError(
                f"the NIfTI header contradicts itself: spacing is {shown} mm by its pixdim, "
                f"{lengths} by its sform; mend the header"
            )
        if header.qform_code > 0:
            _check_same_place(header)
    elif header.qform_code > 0 and not np.isfinite(header.qoffset).all():
        raise ScanError("the origin in the NIfTI header must be finite; mend the header")


def _check_same_place(header: NiftiHeader) -> None:
    """Refuse qform and sform that put the voxels elsewhere: programs differ in which they take."""
    axes = len(header.dim[1 : 1 + min(3, header.dim[0])])
    last = np.ones(3)
    last[:axes] = header.dim[1 : 1 + axes]
    corners = np.array(list(product((0, 1), repeat=3))) * (last - 1)
    affine = np.array(header.srow).reshape(3, 4)
    spacing = np.array([*header.pixdim[:axes], 1.0, 1.0])[:3]
    rotation = _rotation(header.quaternion)
    mirrored = [1, 1, -1 if header.qfac < 0 else 1]
    by_qform = corners * spacing * mirrored @ rotation.T + header.qoffset
    by_sform = corners @ affine[:, :3].T + affine[:, 3]
    apart = np.abs((by_sform - by_qform) @ rotation / spacing).max()
    if not apart <= _SAME_PLACE:
        raise ScanError(
            "the NIfTI header contradicts itself: its qform and sform put the same voxel "
            f"{apart:g} voxels apart, so that left and right may be mirrored; find out which is "
            "right and copy it to the other (fslorient -copyqform2sform or -copysform2qform)"
        )


def _rotation(quaternion: tuple[float, ...]) -> NDArray[np.float64]:
    """The rotation ``(3, 3)`` of b, c and d of a unit quaternion, as nifti1_io.c makes it."""
    b, c, d = (float(part) for part in quaternion)
    square = b * b + c * c + d * d
    b, c, d = (part / math.sqrt(max(square, 1.0)) for part in (b, c, d))
    a = math.sqrt(max(1.0 - square, 0.0))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _check_voxels(path: Path, header: NiftiHeader) -> None:
    """Read through the voxels of a file that is packed or has floats; else look at its size."""
    start = header.vox_offset if path.suffix.lower() != ".img" else 0
    count = int(np.prod(header.dim[1 : 1 + header.dim[0]], dtype=np.float64))
    wanted = start + count * header.bits // _BITS_PER_BYTE
    got, unfit = 0, 0
    with _unpacked(path) as stream:
        if isinstance(stream, gzip.GzipFile) or header.datatype in _FLOATS:
            got = stream.seek(start)
            for chunk in iter(lambda: stream.read(_CHUNK), b""):
                got += len(chunk)
                unfit += _not_finite(chunk, header)
        else:
            got = path.stat().st_size
    if got < wanted:
        raise ScanError(
            f"it is truncated: {got} of {wanted} bytes are there; copy it again, or write it anew"
        )
    if unfit:
        raise ScanError(
            f"{unfit} of {count} voxels are NaN or infinite; fill them (with -1024, air, where "
            "they are outside the field of view)"
        )


def _not_finite(chunk: bytes, header: NiftiHeader) -> int:
    code = _FLOATS.get(header.datatype)
    if code is None:
        return 0
    whole = len(chunk) // int(code[1]) * int(code[1])
    values = np.frombuffer(chunk[:whole], f"{header.order}{code}")
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def _voxel_file(path: Path) -> Path:
    """The file itself, or the other one of a pair."""
    if path.suffix.lower() != ".hdr":
        return path
    pair = (path.with_suffix(".img"), path.with_suffix(".img.gz"))
    for part in pair:
        if part.is_file():
            return part
    raise ScanError(f"its voxels, {pair[0].name}, are not beside it")


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    with path.open("rb") as plain:
        packed = plain.read(2) == GZIP
        plain.seek(0)
        if not packed:
            yield plain
            return
        with gzip.GzipFile(fileobj=plain) as stream:
            yield stream
