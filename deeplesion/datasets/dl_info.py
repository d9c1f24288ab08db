"""``DL_info.csv`` of DeepLesion: one row becomes one :class:`LesionRecord`.

Columns are found by name. Coordinates are 1-based in the file (MATLAB pixels) and 0-based ever
after: pixel ``i`` has its center at ``i``, an image of ``W`` columns spans ``[0, W - 1]``.

What is tolerated, because the published file has it or nothing hangs on it:

* a box that pokes out of the image is clipped to it: boxes are RECIST extent + 5 px a side, and
  NIH did not clip that margin;
* RECIST points outside the image are kept as they are;
* age, sex, slice range and normalized location may be ``NaN`` or empty.

Everything else that is wrong is a :class:`Problem` with its row, column, value and remedy:
numbers that are none, a box wholly outside the image or of no area, pixel spacing or slice
interval that is NaN or not positive, a slice interval that cannot be one, rows of one key slice
that contradict each other, text that is not UTF-8.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deeplesion.datasets.lesion_record import (
    COARSE_TYPES,
    COLUMNS,
    HEADER_ROW,
    INFO_FILE,
    SPLITS,
    DLInfoError,
    LesionRecord,
    Problem,
)
from deeplesion.datasets.row_scanner import Row, RowScanner

__all__ = [
    "COARSE_TYPES",
    "COLUMNS",
    "INFO_FILE",
    "SPLITS",
    "DLInfoError",
    "KeySlice",
    "LesionRecord",
    "Problem",
    "find_image_root",
    "group_by_key_slice",
    "iter_problems",
    "key_slice_path",
    "read_dl_info",
    "scan_dl_info",
    "slice_file",
]

_SERIES = re.compile(r"\d+_\d+_\d+")
#: Rows that are converted at once.
BLOCK_ROWS = 1024


class KeySlice(NamedTuple):
    """A key slice and its lesions, in the order of the CSV.

    Attributes:
        file_name: As :attr:`LesionRecord.file_name`.
        lesions: At least one; what belongs to the slice is equal in all of them.
    """

    file_name: str
    lesions: tuple[LesionRecord, ...]

    @property
    def first(self) -> LesionRecord:
        """The first lesion, to read from it what belongs to the slice."""
        return self.lesions[0]


def read_dl_info(path: str | os.PathLike[str], keep_noisy: bool = True) -> list[LesionRecord]:
    """Read all lesions of a ``DL_info.csv``.

    Args:
        path: The CSV.
        keep_noisy: Whether rows marked ``Possibly_noisy`` are read; if not, they are not looked
            at beyond that mark.

    Returns:
        Lesions in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        DLInfoError: At the first problem; :func:`iter_problems` lists all.
    """
    records = []
    for item in scan_dl_info(path, keep_noisy):
        if isinstance(item, Problem):
            raise DLInfoError(item)
        records.append(item)
    return records


def iter_problems(path: str | os.PathLike[str]) -> Iterator[Problem]:
    """Yield every problem of a ``DL_info.csv`` in one pass.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    items = scan_dl_info(path, every_problem=True)
    return (item for item in items if isinstance(item, Problem))


def scan_dl_info(
    path: str | os.PathLike[str], keep_noisy: bool = True, every_problem: bool = False
) -> Iterator[LesionRecord | Problem]:
    """Yield a :class:`LesionRecord` for each good row and a :class:`Problem` for each bad one.

    Args:
        path: The CSV.
        keep_noisy: As in :func:`read_dl_info`.
        every_problem: Whether all problems of a bad row are yielded, not just the first.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    name = os.fspath(path)
    # Bytes that are not UTF-8 become lone surrogates, which are complained of row by row.
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
        reader = csv.reader(stream)
        try:
            header = [column.strip() for column in next(reader, [])]
            if missing := [column for column in COLUMNS if column not in header]:
                yield _missing_columns(name, missing, header)
                return
            scanner = RowScanner(name, header, keep_noisy, every_problem)
            for rows in _blocks(_numbered(reader)):
                yield from scanner.scan(rows)
        except csv.Error as error:
            message = f"{Path(name).name} cannot be read on from line {reader.line_num}: {error}"
            remedy = "look there for a quote that is not closed, or download the file anew"
            yield Problem(name, message, remedy)


def _numbered(reader: Iterator[list[str]]) -> Iterator[Row]:
    """Records that are not empty, each with the first line of the file that it stands on."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]
        try:
            cells = next(reader)
        except StopIteration:
            return
        if cells:
            yield line, cells


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Gather rows; those before an error of the reader are handed on before it is."""
    block: list[Row] = []
    try:
        for row in rows:
            block.append(row)
            if len(block) == BLOCK_ROWS:
                yield block
                block = []
    except csv.Error:
        yield block
        raise
    yield block


def _missing_columns(path: str, missing: list[str], header: list[str]) -> Problem:
    message = f"{Path(path).name} lacks the column(s) {', '.join(missing)}; it has: "
    found = ", ".join(header) or "nothing"
    message += found.encode(errors="backslashreplace").decode()
    remedy = "take DL_info.csv as the NIH publishes it, header included, in UTF-8"
    return Problem(path, message, remedy, row=HEADER_ROW, column=missing[0])


def group_by_key_slice(
    records: Iterable[LesionRecord], split: str | None = None, keep_noisy: bool = False
) -> list[KeySlice]:
    """Gather the lesions of each key slice.

    Args:
        records: Lesions of :func:`read_dl_info`.
        split: ``train``, ``val``, ``test``, or None for all.
        keep_noisy: Whether lesions marked ``Possibly_noisy`` stay. A key slice all of whose
            lesions go, goes.

    Returns:
        Key slices in order of their first row.

    Raises:
        ValueError: If ``split`` is unknown.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS} or None, got {split!r}")
    groups: dict[str, list[LesionRecord]] = {}
    for record in records:
        if split in (None, record.split) and (keep_noisy or not record.possibly_noisy):
            groups.setdefault(record.file_name, []).append(record)
    return [KeySlice(name, tuple(lesions)) for name, lesions in groups.items()]


def find_image_root(data_root: str | os.PathLike[str]) -> Path:
    """Find the folder that holds the series folders.

    The NIH's archives unpack to ``Images_png/<series>/`` or, each in a folder of its own name, to
    ``Images_png/Images_png/<series>/``.

    Args:
        data_root: Folder of the data set.

    Raises:
        FileNotFoundError: If neither is there.
    """
    root = Path(data_root)
    candidates = (root / "Images_png", root / "Images_png" / "Images_png", root)
    for folder in candidates:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                if any(_SERIES.fullmatch(entry.name) for entry in entries):
                    return folder
    raise FileNotFoundError(
        f"no folder of slices such as Images_png/000001_01_01 under {root}: unpack DeepLesion's "
        "Images_png archives there"
    )


def key_slice_path(root: str | os.PathLike[str], series: str, index: int) -> Path:
    """Path of slice ``index`` of ``series`` under ``root`` of :func:`find_image_root`."""
    return Path(root, slice_file(series, index))


def slice_file(series: str, index: int) -> str:
    """Path of a slice relative to the folder of the series folders: ``000001_01_01/109.png``."""
    return f"{series}{os.sep}{index:03d}.png"
