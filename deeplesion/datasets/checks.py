"""All that is wrong with a data root, in one pass."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from deeplesion.datasets.ct import SliceError, inspect_slice, read_slice
from deeplesion.datasets.dl_info import (
    INFO_FILE,
    SPLITS,
    LesionRecord,
    Problem,
    find_image_root,
    group_by_key_slice,
    key_slice_path,
    scan_dl_info,
)

CHECK_THREADS = 8

_MAKE_SYNTHETIC = (
    "`python tools/make_synthetic.py --out {root} --patients 100` makes a synthetic one"
)


def check_data_root(data_root: str | os.PathLike[str], deep: bool = False) -> list[Problem]:
    """List everything wrong with a data set in DeepLesion's layout.

    Args:
        data_root: Folder of ``DL_info.csv`` and ``Images_png``.
        deep: Whether key slices, and what is stored of the ``Slice_range`` of their lesions, are
            decoded (some 3 ms each); if not, header and end of the key slices' files are looked
            at. Neighbors may be missing.

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
        for item in scan_dl_info(root / INFO_FILE, every_problem=True):
            if isinstance(item, Problem):
                problems.append(item)
            else:
                records.append(item)
        problems += _duplicates(root / INFO_FILE, records)
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
            return inspect_slice(path, record.image_size)
        try:
            read_slice(path, record.image_size)
            for neighbor in stored_neighbors(record):
                read_slice(neighbor, record.image_size)
        except SliceError as error:
            return str(error)
        return None

    def stored_neighbors(record: LesionRecord) -> list[Path]:
        first, last = record.slice_range
        files = (image_root / record.series).glob("*.png")
        numbers = {int(path.stem): path for path in files if path.stem.isdigit()}
        numbers.pop(record.key_slice, None)
        return [numbers[number] for number in sorted(numbers) if first <= number <= last]

    firsts = [group.first for group in group_by_key_slice(records, keep_noisy=True)]
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        for record, complaint in zip(firsts, pool.map(inspect, firsts), strict=True):
            if complaint is not None:
                remedy = "unpack its archive anew, or set on_error='skip' to drop such key slices"
                yield Problem(
                    str(info_file), complaint, remedy, record.row, "File_name", record.file_name
                )


def _duplicates(info_file: Path, records: list[LesionRecord]) -> Iterator[Problem]:
    """A problem for each lesion that stands in the file again, box and all."""
    rows: dict[tuple[str, tuple[float, ...]], int] = {}
    for record in records:
        first = rows.setdefault((record.file_name, record.bbox), record.row)
        if first != record.row:
            message = f"{record.file_name} has the lesion of row {first} again, with the same box"
            yield Problem(str(info_file), message, "remove one of the rows", record.row)


class SplitCount(NamedTuple):
    """How much a split holds, and whether masks are made for it."""

    key_slices: int
    lesions: int
    has_masks: bool


def count_splits(data_root: str | os.PathLike[str]) -> dict[str, SplitCount]:
    """Count key slices and lesions of each split, noisy and malformed rows left out.

    Args:
        data_root: Folder of ``DL_info.csv``.

    Returns:
        Counts by split.
    """
    root = Path(data_root)
    items = scan_dl_info(root / INFO_FILE, keep_noisy=False)
    records = [item for item in items if isinstance(item, LesionRecord)]
    lesions = Counter(record.split for record in records)
    slices = Counter(split for split, _ in {(record.split, record.file_name) for record in records})
    return {
        split: SplitCount(slices[split], lesions[split], (root / f"masks_{split}.json").is_file())
        for split in SPLITS
    }
