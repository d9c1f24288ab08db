"""All that is wrong with a data root, in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deeplesion.datasets.ct import SliceError, read_slice
from deeplesion.datasets.dl_info import (
    LesionRecord,
    Problem,
    find_image_root,
    group_by_key_slice,
    key_slice_path,
    scan_dl_info,
)

INFO_FILE = "DL_info.csv"
CHECK_THREADS = 8

_MAKE_SYNTHETIC = (
    "`python tools/make_synthetic.py --out {root} --patients 100` makes a synthetic one"
)


def check_data_root(data_root: str | os.PathLike[str], deep: bool = False) -> list[Problem]:
    """List everything wrong with a data set in DeepLesion's layout.

    Args:
        data_root: Folder of ``DL_info.csv`` and ``Images_png``.
        deep: Whether key slices are opened and decoded (some 3 ms each); if not, only their
            presence is looked at. Neighbours may be missing and are not looked at.

    Returns:
        Problems in the order of the file; empty if all is well.
    """
    root = Path(data_root)
    if not root.is_dir():
        remedy = "get DeepLesion from the NIH, or " + _MAKE_SYNTHETIC.format(root=root)
        return [Problem(str(root), f"data root {root} is not there", remedy)]
    problems: list[Problem] = []
    records: list[LesionRecord] = []
    if (root / INFO_FILE).is_file():
        for item in scan_dl_info(root / INFO_FILE):
            if isinstance(item, Problem):
                problems.append(item)
            else:
                records.append(item)
    else:
        remedy = f"put the NIH's {INFO_FILE} there, or " + _MAKE_SYNTHETIC.format(root=root)
        problems.append(Problem(str(root / INFO_FILE), f"{root} has no {INFO_FILE}", remedy))
    try:
        image_root = find_image_root(root)
    except FileNotFoundError:
        remedy = "unpack DeepLesion's Images_png archives there"
        message = f"no folder of slices such as Images_png/000001_01_01 under {root}"
        return [*problems, Problem(str(root), message, remedy)]
    return sorted(
        [*problems, *_slice_problems(root / INFO_FILE, image_root, records, deep)],
        key=lambda problem: problem.row or 0,
    )


def _slice_problems(
    info_file: Path, image_root: Path, records: list[LesionRecord], deep: bool
) -> Iterator[Problem]:
    """Problems of key slice files, each at the first row that names it."""

    def inspect(record: LesionRecord) -> str | None:
        path = key_slice_path(image_root, record.series, record.key_slice)
        if not deep:
            return None if path.is_file() else f"{path} is missing"
        try:
            read_slice(path, record.image_size)
        except SliceError as error:
            return str(error)
        return None

    firsts = [group.first for group in group_by_key_slice(records, keep_noisy=True)]
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        for record, complaint in zip(firsts, pool.map(inspect, firsts), strict=True):
            if complaint is not None:
                remedy = "unpack its archive anew, or set on_error='skip' to drop such key slices"
                yield Problem(
                    str(info_file), complaint, remedy, record.row, "File_name", record.file_name
                )
