"""NIfTI, MetaImage and NRRD, by SimpleITK."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deeplesion.scans import checks
from deeplesion.scans.formats import is_utf8, safe_name, stem_of
from deeplesion.scans.geometry import Geometry
from deeplesion.scans.nifti_header import GZIP, check_nifti
from deeplesion.scans.orientation import Turn, check_upright
from deeplesion.scans.scan import Scan, ScanError

#: How ITK knows each format; the first suffix is given to files that have another.
SUFFIXES = {
    "NIfTI": (".nii", ".nii.gz", ".hdr"),
    "MetaImage": (".mha", ".mhd"),
    "NRRD": (".nrrd", ".nhdr"),
}
_READERS = {"NIfTI": "NiftiImageIO", "MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}
_META_HEADER_BYTES = 1 << 16
_META_NUMBERS = (
    *("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"),
    *("TransformMatrix", "Rotation", "Orientation"),
)


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

    warnings = check_nifti(path) if kind == "NIfTI" else []
    if kind == "MetaImage":
        _check_meta_image(path)
    with _named_for_itk(path, kind) as name:
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO(_READERS[kind])
        reader.SetFileName(str(name))
        try:
            reader.ReadImageInformation()
            warnings += _check_header(reader, kind)
            image = reader.Execute()
        except (RuntimeError, MemoryError) as error:
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
    if kind == "NRRD" and not reader.HasMetaDataKey("NRRD_space"):
        return [
            "the NRRD header does not say how the patient lies (no space): left and right, head "
            "and feet may be wrong"
        ]
    return []


def _check_meta_image(path: Path) -> None:
    """Refuse numbers that ITK would mend without a word."""
    with path.open("rb") as stream:
        head = stream.read(_META_HEADER_BYTES).partition(b"ElementDataFile")[0]
    for line in head.decode("latin-1").splitlines():
        key, _, text = (part.strip() for part in line.partition("="))
        if key not in _META_NUMBERS:
            continue
        try:
            values = [float(part) for part in text.split()]
        except ValueError:
            values = [math.nan]
        positive = key in ("ElementSpacing", "ElementSize")
        if not all(math.isfinite(value) and (value > 0 or not positive) for value in values):
            wanted = "> 0 mm" if positive else "finite"
            raise ScanError(f"{key} must be {wanted}, got {text}; mend the header")


@contextmanager
def _named_for_itk(path: Path, kind: str) -> Iterator[Path]:
    """The file under a name by which ITK takes it for what it is."""
    suffix = SUFFIXES[kind][0]
    if kind == "NIfTI":
        with path.open("rb") as stream:
            packed = stream.read(2) == GZIP
        suffix = ".nii.gz" if packed else ".nii"
        fits = path.name.lower().endswith(SUFFIXES[kind]) and packed == path.name.endswith(".gz")
    else:
        fits = path.name.lower().endswith(SUFFIXES[kind])
    # ITK knows suffixes in lower or upper case only, and dies of names that are not UTF-8.
    if fits and path.suffix in (path.suffix.lower(), path.suffix.upper()) and is_utf8(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, f"scan{suffix}")
        link.symlink_to(path.resolve())
        yield link


def _in_short(message: str) -> str:
    """What ITK complains about, without where in its source and memory."""
    low = message.lower()
    if "orthonormal" in low:
        return "its axes are not at right angles (sheared); resample it to axes that are"
    if "zero-valued spacing" in low:
        return "spacing must be > 0 mm, got 0; mend the header"
    if "allocate" in low or "bad_alloc" in low:
        return "there is not enough memory for it, if its header is right"
    lines = (line.strip() for line in message.splitlines() if ".cxx:" not in line)
    text = re.sub(r"\s*\(0x[0-9a-f]+\)", "", " ".join(line for line in lines if line))
    return (
        f"SimpleITK cannot read it, it may be truncated or damaged; copy it again ({text[-300:]})"
    )
