"""NIfTI, MetaImage and NRRD, by SimpleITK."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.scans import checks
from deeplesion.scans.errors import ScanError
from deeplesion.scans.formats import safe_name, stem_of
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.orientation import Turn, check_upright
from deeplesion.scans.scan import Scan

#: How ITK knows each format; the first suffix is given to files that have another.
SUFFIXES = {
    "NIfTI": (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".nia"),
    "MetaImage": (".mha", ".mhd"),
    "NRRD": (".nrrd", ".nhdr"),
}
_READERS = {"NIfTI": "NiftiImageIO", "MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_BITS_PER_BYTE = 8


def read_itk(path: Path, kind: str, check_hu: bool = True) -> Scan:
    """Read a scan from one file.

    Args:
        path: The file.
        kind: ``NIfTI``, ``MetaImage`` or ``NRRD``.
        check_hu: Whether to refuse what does not look like a CT in HU.

    Raises:
        ScanError: It is damaged, not one gray volume, has NaN voxels or an impossible geometry, or
            is not a CT in HU.
    """
    import SimpleITK

    with _named_for_itk(path, kind) as name:
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO(_READERS[kind])
        reader.SetFileName(str(name))
        try:
            reader.ReadImageInformation()
            warnings = _check_header(reader, kind)
            if kind == "NIfTI":
                _check_whole(name, reader)
            image = reader.Execute()
        except RuntimeError as error:
            raise ScanError(_in_short(str(error))) from error
    stored = geometry_of(image)
    checks.check_geometry(stored)
    turn = Turn.of(stored)
    turned = turn.geometry(stored)
    checks.check_slice_count(turned.size[2])
    check_upright(turned)
    voxels = SimpleITK.GetArrayViewFromImage(image)
    if voxels.dtype.kind == "f":
        checks.check_finite(voxels)
    hu: Any = np.ascontiguousarray(turn.apply(checks.to_int16(voxels)))
    if check_hu:
        checks.check_hu(hu)
    return Scan(
        name=safe_name(stem_of(path)),
        format=kind,
        # What is still a view of the image would go with it.
        hu=hu.copy() if np.may_share_memory(hu, voxels) else hu,
        geometry=turned,
        stored=stored,
        files=(path,),
        warnings=tuple(warnings),
    )


def geometry_of(image: Any) -> Geometry:
    """Geometry of a SimpleITK image of three dimensions."""
    columns, rows, slices = image.GetSize()[:3]
    return Geometry(
        origin=np.array(image.GetOrigin(), np.float64),
        spacing=np.array(image.GetSpacing(), np.float64),
        direction=np.array(image.GetDirection(), np.float64).reshape(3, 3),
        size=(columns, rows, slices),
    )


def _check_header(reader: Any, kind: str) -> list[str]:
    """Refuse what is not one gray volume; give the warnings."""
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise ScanError(
            f"it has {reader.GetNumberOfComponents()} values per voxel (color, or a vector field), "
            "a CT has one; give the scan itself"
        )
    if len(size) > 3 and int(np.prod(size[3:])) > 1:
        raise ScanError(
            f"it has {int(np.prod(size[3:]))} volumes ({len(size)}-D), a scan is one; split it"
        )
    checks.check_slice_count(size[2] if len(size) > 2 else 1)
    if len(size) > 3:
        reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
    return _check_nifti_header(reader) if kind == "NIfTI" else []


def _check_nifti_header(reader: Any) -> list[str]:
    """Refuse spacing that ITK would mend without a word; warn where there is no orientation."""

    def field(name: str) -> float:
        return float(reader.GetMetaData(name)) if reader.HasMetaDataKey(name) else 1.0

    spacing = [field(f"pixdim[{axis}]") for axis in (1, 2, 3)]
    if not all(value > 0 for value in spacing):
        raise ScanError(
            f"spacing must be > 0 mm, got {', '.join(f'{value:g}' for value in spacing)} "
            "(pixdim of the NIfTI header); mend the header"
        )
    if field("qform_code") == 0 and field("sform_code") == 0:
        return [
            "the NIfTI header does not say how the patient lies (qform_code and sform_code are 0): "
            "left and right, head and feet may be wrong"
        ]
    return []


def _check_whole(path: Path, reader: Any) -> None:
    """Refuse a NIfTI file that ends early, which ITK fills with zeros without a word."""
    if path.suffix.lower() in (".hdr", ".img", ".nia"):
        return
    bits = float(reader.GetMetaData("bitpix")) * float(np.prod(reader.GetSize()))
    wanted = int(float(reader.GetMetaData("vox_offset")) + bits / _BITS_PER_BYTE)
    try:
        got = _unpacked_size(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ScanError(f"it is truncated or damaged: {error}; copy it again") from error
    if got < wanted:
        raise ScanError(
            f"it is truncated: {got} of {wanted} bytes are there; copy it again, or write it anew"
        )


def _unpacked_size(path: Path) -> int:
    with path.open("rb") as stream:
        if stream.read(2) != _GZIP:
            return path.stat().st_size
    # Its checksum is looked at on the way.
    with gzip.open(path) as packed:
        return sum(len(chunk) for chunk in iter(lambda: packed.read(_CHUNK), b""))


@contextmanager
def _named_for_itk(path: Path, kind: str) -> Iterator[Path]:
    """The file under a name by which ITK takes it for what it is."""
    suffix = SUFFIXES[kind][0]
    if kind == "NIfTI":
        with path.open("rb") as stream:
            packed = stream.read(2) == _GZIP
        suffix = ".nii.gz" if packed else ".nii"
        fits = path.name.lower().endswith(SUFFIXES[kind]) and packed == path.name.endswith(".gz")
    else:
        fits = path.name.lower().endswith(SUFFIXES[kind])
    # ITK knows suffixes in lower or upper case only.
    if fits and path.suffix in (path.suffix.lower(), path.suffix.upper()):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"scan{suffix}")
        link.symlink_to(path.resolve())
        yield link


def _in_short(message: str) -> str:
    """What ITK complains about, without where in its source."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "orthonormal" in message.lower():
        return "its axes are not at right angles (sheared); resample it to axes that are"
    said = [line for line in lines if not line.startswith("/") and ".cxx" not in line]
    text = " ".join(said or lines)
    return f"SimpleITK cannot read it: {text[-300:]}; it may be truncated or damaged, copy it again"
