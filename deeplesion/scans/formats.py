"""Finding files, and telling their format by what is in them."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from deeplesion.scans.scan import ScanError

_GZIP = b"\x1f\x8b"
_DICM_AT = 128
_NIFTI_MAGIC_AT = 344
_HEAD_BYTES = 512
_NIFTI_MAGICS = (b"n+1\0", b"ni1\0")
_NIFTI2_MAGICS = (b"n+2\0", b"ni2\0")
# Files without preamble begin with an element of group 2 or 8, of either byte order.
_BARE_DICOM = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
_META_IMAGE = re.compile(rb"^\s*(ObjectType|NDims|Comment|ID)\s*=", re.MULTILINE)
_MAX_NAME = 100


def sniff(path: Path) -> str:
    """Format of a file by its first bytes.

    Args:
        path: A file.

    Returns:
        ``DICOM``, ``NIfTI``, ``MetaImage``, ``NRRD``, ``PNG``, or empty if it is none of these.

    Raises:
        ScanError: It cannot be read, or is empty.
    """
    head = _head(path)
    if not head:
        raise ScanError(f"{path} is empty (0 bytes): copy it again")
    if head[_DICM_AT : _DICM_AT + 4] == b"DICM":
        return "DICOM"
    if head.startswith(b"\x89PNG\r\n"):
        return "PNG"
    if head.startswith(b"NRRD"):
        return "NRRD"
    nifti1 = head[_NIFTI_MAGIC_AT : _NIFTI_MAGIC_AT + 4] in _NIFTI_MAGICS
    if nifti1 or head[4:8] in _NIFTI2_MAGICS:
        return "NIfTI"
    if _META_IMAGE.search(head) and b"NDims" in head:
        return "MetaImage"
    bare = head[:2] in _BARE_DICOM and path.suffix.lower() in (".dcm", ".ima", "")
    return "DICOM" if bare else ""


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without hidden ones."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.is_file()]


def named_path(path: Path) -> Path:
    """An absolute path that ends in a name; links are left as they are called.

    A ``..`` at its end goes where the system says, the rest stays as given.
    """
    return path.resolve() if path.name in ("", "..") else path.absolute()


def stem_of(path: Path) -> str:
    """Name of a file without its suffixes, ``.nii.gz`` as a whole; of a folder, all of it."""
    if path.is_dir():
        return named_path(path).name
    return re.sub(r"(?i)(\.nii)?\.gz$|\.[a-z]{2,5}$", "", path.name) or path.name


def safe_name(text: str) -> str:
    """Text as a name for files: letters, digits, ``_``, ``.`` and ``-``."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._-")[:_MAX_NAME] or "scan"


def is_utf8(path: Path) -> bool:
    """Whether the name of a file is UTF-8, as SimpleITK wants it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        if not head.startswith(_GZIP):
            return head
        with gzip.open(path) as stream:
            return stream.read(_HEAD_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ScanError(f"{path} is truncated or damaged: {error}; copy it again") from error
    except OSError as error:
        raise ScanError(f"{path} cannot be read: {error.strerror or error}") from error
