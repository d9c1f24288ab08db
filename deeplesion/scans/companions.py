"""Files that a scan is read from besides those that are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from deeplesion.scans.png_slices import info_file_above

_HEADER_BYTES = 1 << 16
_PAIR = (".img", ".img.gz")
# Where a header names its voxels: a file, a pattern of names with numbers, or LIST and names.
_NAMES = {
    **dict.fromkeys((".mhd", ".mha"), re.compile(r"^ElementDataFile\s*=(.*)", re.M | re.S)),
    **dict.fromkeys((".nhdr", ".nrrd"), re.compile(r"^data ?file:(.*)", re.M | re.S | re.I)),
}
_NUMBER = re.compile(r"%\d*d")


def companions(files: Sequence[Path]) -> list[Path]:
    """Voxels that are not in their header's file, and the ``DL_info.csv`` above PNG slices.

    Args:
        files: Of one scan.

    Returns:
        Those that are there, whether they are among ``files`` or not.
    """
    found = [path for file in files for path in _voxels_of(file)]
    info = None
    if files and files[0].suffix.lower() == ".png":
        info = info_file_above(files[0].parent)
    return found if info is None else [*found, info]


def _voxels_of(file: Path) -> list[Path]:
    suffix = file.suffix.lower()
    if suffix == ".hdr":
        return [path for end in _PAIR if (path := file.with_suffix(end)).is_file()]
    if suffix not in _NAMES:
        return []
    with file.open("rb") as stream:
        head = stream.read(_HEADER_BYTES).decode("latin-1").replace("\r\n", "\n")
    # What comes after an empty line is no header.
    match = _NAMES[suffix].search(head.partition("\n\n")[0])
    first, *others = match[1].strip().split("\n") if match else [""]
    names = others if first.split(" ")[0] == "LIST" else [first]
    return [path for name in names for path in _named(file.parent, name.strip())]


def _named(folder: Path, name: str) -> list[Path]:
    if _NUMBER.search(name):
        pattern = _NUMBER.sub("*", name.split()[0])
        return sorted((folder / pattern).parent.glob(Path(pattern).name))
    try:
        return [folder / name] if name and (folder / name).is_file() else []
    except ValueError:  # a name with a null character is none
        return []
