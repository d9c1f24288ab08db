"""Reading a packed cache of slices: one file for each series, ``C/000001_01_01.ctpack``.

A pack is a header (:data:`HEADER`), a table with an entry for each slice (:data:`ENTRY`, ascending
by number), and the slices as :mod:`deeplesion.datasets.slice_codec` codes them, each at the offset
and of the length that its entry tells. Numbers are little-endian. ``C/packed.json`` is written when
all series are packed. :mod:`deeplesion.datasets.packing` writes both.

Reading takes no lock, writes nothing and keeps no file open, so that any number of processes,
forked or spawned, on any number of machines may read: a sample opens the pack of its series, reads
the table and its slices, and closes it. Files are read, not mapped: a mapped file that another
machine replaces or cuts short kills the process.

The cache knows size and time of each file that it was made from. Loading compares the size of the
key slice's file, where that is there at all, so that a cache of other data is found out and a data
set may be copied; ``tools/pack.py`` compares size and time of every file.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeplesion.datasets.dl_info import key_slice_path
from deeplesion.datasets.lesion_record import DataError
from deeplesion.datasets.slice_codec import CodecError, decode_slices
from deeplesion.datasets.slice_files import Slice, SliceError, inspect_size

MAGIC = b"CTPACK\r\n"  # a transfer as text changes it
VERSION = 1
SUFFIX = ".ctpack"
DONE_FILE = "packed.json"
#: ``table_crc`` is the CRC-32 of the table, ``file_size`` that of the whole pack in bytes.
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("slices", "<u4"),
        ("table_crc", "<u4"),
        ("file_size", "<u8"),
    ]
)
#: ``height`` and ``width`` in px, the rest in bytes, ``png_time`` in ns since 1970.
ENTRY = np.dtype(
    [
        ("number", "<i4"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("offset", "<u8"),
        ("length", "<u4"),
        ("png_size", "<i8"),
        ("png_time", "<i8"),
    ]
)


class Entry(NamedTuple):
    """A slice in the table; fields as in :data:`ENTRY`."""

    number: int
    height: int
    width: int
    offset: int
    length: int
    png_size: int
    png_time: int


class PackError(DataError):
    """A packed cache that is incomplete, damaged, or of other data."""


def pack_path(folder: str | os.PathLike[str], series: str) -> Path:
    """Where the pack of a series lies in a cache."""
    return Path(folder, series + SUFFIX)


def remedy(folder: str | os.PathLike[str]) -> str:
    """What to do about a cache that is not as it must be."""
    return f"bring it up to date by `python tools/pack.py --data-root DATA_ROOT --out {folder}`"


def list_packs(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the series of a cache, sorted; files that are being written are left out."""
    names = (entry.name for entry in os.scandir(folder))
    return sorted(
        name.removesuffix(SUFFIX)
        for name in names
        if name.endswith(SUFFIX) and not name.startswith(".")
    )


def check_cache(folder: str | os.PathLike[str], series: Iterable[str] = ()) -> dict[str, Any]:
    """See that a cache is there, finished, of a version that can be read, and has some series.

    Args:
        folder: The cache.
        series: Names that it must have.

    Returns:
        What ``packed.json`` holds.

    Raises:
        PackError: If it is not so.
    """
    done = Path(folder, DONE_FILE)
    if not Path(folder).is_dir():
        text = f"packed cache {folder} is not there"
        raise PackError(
            f"{text}: make it by `python tools/pack.py --data-root DATA_ROOT --out {folder}`"
        )
    try:
        content = json.loads(done.read_text(encoding="utf-8"))
        version = content["version"]
    except FileNotFoundError:
        raise PackError(f"packed cache {folder} is not finished: {remedy(folder)}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackError(f"{done} cannot be read ({error}): {remedy(folder)}") from None
    if version != VERSION:
        raise PackError(
            f"packed cache {folder} is of version {version}, wanted is {VERSION}: {remedy(folder)}"
        )
    missing = sorted(set(series) - set(list_packs(folder)))
    if missing:
        raise PackError(
            f"packed cache {folder} lacks {len(missing)} series of the data set, such as "
            f"{missing[0]}: it was made of other data, or before these were there; "
            f"{remedy(folder)}"
        )
    return content


class PackedSeries:
    """The slices of one series in a cache.

    Args:
        folder: The cache.
        series: Name of the series.

    Attributes:
        entries: Those of its table, by number, ascending.

    Raises:
        PackError: If it has no pack, or that is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str], series: str) -> None:
        self.folder, self.series = folder, series
        self.path = pack_path(folder, series)
        self.entries = {row[0]: Entry(*row) for row in self._read_table().tolist()}
        self._decoded: dict[int, Slice] = {}

    @property
    def numbers(self) -> list[int]:
        """Numbers of the slices, ascending."""
        return list(self.entries)

    def check_source(self, image_root: str | os.PathLike[str], number: int) -> None:
        """See that the file of a slice, if it is there, has the size of the one that was packed.

        Raises:
            PackError: If it has not.
        """
        path = key_slice_path(image_root, self.series, number)
        if number not in self.entries:
            return
        try:
            size = path.stat().st_size
        except OSError:
            return
        packed = self.entries[number].png_size
        if size != packed:
            text = f"{path} has {size} bytes, and had {packed} when {self.path} was made"
            raise PackError(f"{text}: {remedy(self.folder)}")

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Decode slices together, which is faster than one by one; what is not stored is left out.

        Raises:
            PackError: If the pack is damaged.
        """
        wanted = [n for n in dict.fromkeys(numbers) if n in self.entries and n not in self._decoded]
        by_size: dict[tuple[int, int], list[int]] = {}
        for number in wanted:
            by_size.setdefault(self._size(number), []).append(number)
        for size, same in by_size.items():
            rows = self._decode(same, size)
            self._decoded |= {number: rows[:, place] for place, number in enumerate(same)}

    def verify(self) -> None:
        """Decode every slice, which compares its checksum, and keep none.

        Raises:
            PackError: If one is damaged.
        """
        for number in self.numbers:
            self._decode([number], self._size(number))

    def read(self, number: int, size: tuple[int, int] | None = None) -> Slice | None:
        """Read one slice.

        Args:
            number: Its number.
            size: ``(height, width)`` in px that it must have; None takes any.

        Returns:
            ``(H, W)`` int16 in HU; None if there is no such slice.

        Raises:
            SliceError: If it has another size.
            PackError: If the pack is damaged.
        """
        if number not in self.entries:
            return None
        if (complaint := self.inspect(number, size)) is not None:
            raise SliceError(complaint)
        self.prefetch([number])
        return self._decoded[number]

    def inspect(self, number: int, size: tuple[int, int] | None = None) -> str | None:
        """Say that a slice is missing or has another size than it must have, or None."""
        if number not in self.entries:
            return f"slice {number} is missing in {self.path}: {remedy(self.folder)}"
        return inspect_size(f"slice {number} of {self.path}", self._size(number), size)

    def read_key(self, number: int, size: tuple[int, int] | None = None) -> Slice:
        """Read a slice that must be there; as :meth:`read`.

        Raises:
            SliceError: If there is no such slice, too.
        """
        if (complaint := self.inspect(number, size)) is not None:
            raise SliceError(complaint)
        self.prefetch([number])
        return self._decoded[number]

    def _size(self, number: int) -> tuple[int, int]:
        entry = self.entries[number]
        return entry.height, entry.width

    def _decode(self, numbers: list[int], size: tuple[int, int]) -> Slice:
        """``(H, N, W)`` of slices of one size."""
        entries = [self.entries[number] for number in numbers]
        with open(self.path, "rb") as stream:
            file = stream.fileno()
            frames = [os.pread(file, entry.length, entry.offset) for entry in entries]
        try:
            return decode_slices(frames, size)
        except CodecError as error:
            raise self._damaged(f"slice {numbers[error.index]} is damaged ({error})") from None

    def _read_table(self) -> NDArray[np.void]:
        try:
            with open(self.path, "rb") as stream:
                head = stream.read(HEADER.itemsize)
                header = np.frombuffer(head.ljust(HEADER.itemsize, b"\0"), HEADER)[0]
                if header["magic"] != MAGIC:
                    raise self._damaged("it is not a pack, or its beginning is lost")
                if header["version"] != VERSION:
                    raise self._damaged(f"it is of version {header['version']}, wanted {VERSION}")
                size = os.fstat(stream.fileno()).st_size
                if size != header["file_size"]:
                    raise self._damaged(f"it has {size} bytes instead of {header['file_size']}")
                table = stream.read(int(header["slices"]) * ENTRY.itemsize)
        except FileNotFoundError:
            text = f"packed cache {self.folder} has no {self.path.name}"
            raise PackError(
                f"{text}: it is of another data set, or unfinished; {remedy(self.folder)}"
            ) from None
        if zlib.crc32(table) != header["table_crc"]:
            raise self._damaged("its table is damaged")
        return np.frombuffer(table, ENTRY)

    def _damaged(self, what: str) -> PackError:
        return PackError(f"{self.path}: {what}; remove it and {remedy(self.folder)}")
