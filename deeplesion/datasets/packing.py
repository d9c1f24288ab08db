"""Making and verifying a packed cache of slices, see :mod:`deeplesion.datasets.packed`."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from tqdm import tqdm

from deeplesion.datasets.dl_info import find_image_root, key_slice_path, slice_file
from deeplesion.datasets.packed import (
    DONE_FILE,
    ENTRY,
    HEADER,
    MAGIC,
    SUFFIX,
    VERSION,
    PackedSeries,
    PackError,
    check_cache,
    list_packs,
    pack_path,
)
from deeplesion.datasets.slice_codec import encode_slice
from deeplesion.datasets.slice_files import SliceError, read_hu
from deeplesion.datasets.workers import process_map
from deeplesion.io import atomic_write, write_json

OnError = Literal["raise", "skip"]
MEGABYTE = 1e6


class PngFile(NamedTuple):
    """A slice's file: its number, size in bytes and time of change in ns since 1970."""

    number: int
    size: int
    time: int


@dataclass(frozen=True)
class SeriesReport:
    """What became of one series: counts, bytes, and what is wrong."""

    series: str
    slices: int
    png_bytes: int
    packed_bytes: int
    kept: bool = False
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackSummary:
    """What became of a data set.

    Attributes:
        series: Packed, in all.
        kept: Of these, those that were packed already, of the files as they are.
        slices: Packed, in all.
        png_bytes: Size of the slices' files.
        packed_bytes: Size of the packs.
        skipped: What is wrong with each slice that was left out.
        seconds: Duration.
    """

    series: int
    kept: int
    slices: int
    png_bytes: int
    packed_bytes: int
    skipped: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        share = self.packed_bytes / self.png_bytes if self.png_bytes else 1.0
        return (
            f"{self.slices} slices of {self.series} series in {self.packed_bytes / MEGABYTE:.1f} "
            f"MB, {share:.0%} of their PNG; {self.kept} series were packed already, "
            f"{len(self.skipped)} slices skipped; {self.seconds:.1f} s"
        )


def list_series(image_root: Path) -> list[str]:
    """Folders below ``image_root`` that may hold slices, sorted."""
    with os.scandir(image_root) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())


def list_slices(image_root: Path, series: str) -> list[PngFile]:
    """Files of the slices of a series, by number; other files are passed over."""
    found = []
    with os.scandir(image_root / series) as entries:
        for entry in entries:
            stem = entry.name.removesuffix(".png")
            if (
                stem.isdecimal()
                and slice_file(series, int(stem)) == f"{series}{os.sep}{entry.name}"
            ):
                status = entry.stat()
                found.append(PngFile(int(stem), status.st_size, status.st_mtime_ns))
    return sorted(found)


def pack_series(
    series: str, image_root: Path, out: Path, on_error: OnError = "raise"
) -> SeriesReport:
    """Pack one series, unless it is packed already.

    Args:
        series: Its name.
        image_root: Folder of the series folders.
        out: Folder of the cache.
        on_error: ``skip`` leaves out slices that cannot be read, ``raise`` stops at the first.

    Raises:
        SliceError: If a slice cannot be read and ``on_error`` is ``raise``.
    """
    files = list_slices(image_root, series)
    path = pack_path(out, series)
    if not files:
        path.unlink(missing_ok=True)  # of slices that are no more
        return SeriesReport(series, 0, 0, 0)
    png_bytes = sum(file.size for file in files)
    if _is_current(out, series, files):
        return SeriesReport(series, len(files), png_bytes, path.stat().st_size, kept=True)
    frames, entries, complaints = [], [], []
    for file in files:
        try:
            hu = read_hu(key_slice_path(image_root, series, file.number))
        except SliceError as error:
            if on_error == "raise":
                raise
            complaints.append(str(error))
            continue
        frames.append(encode_slice(hu))
        entries.append((file.number, *hu.shape, 0, len(frames[-1]), file.size, file.time))
    table = np.array(entries, ENTRY)
    begin = HEADER.itemsize + table.nbytes
    table["offset"] = begin + np.cumsum(table["length"], dtype=np.uint64) - table["length"]
    total = begin + sum(map(len, frames))
    header = np.array((MAGIC, VERSION, len(table), zlib.crc32(table.tobytes()), total), HEADER)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.writelines([header.tobytes(), table.tobytes(), *frames])
    return SeriesReport(series, len(frames), png_bytes, total, complaints=tuple(complaints))


def _is_current(out: Path, series: str, files: list[PngFile]) -> bool:
    try:
        entries = PackedSeries(out, series).entries.values()
    except PackError:
        return False  # not there, or not whole, and to be made
    return [(entry.number, entry.png_size, entry.png_time) for entry in entries] == files


def pack_data_root(
    data_root: Path | str,
    out: Path | str,
    workers: int = 1,
    on_error: OnError = "raise",
    progress: bool = False,
) -> PackSummary:
    """Pack all slices of a data set; the same call goes on where an interrupted one stopped.

    Series whose files are as they were when they were packed are kept, so that it brings a cache up
    to date, too. Each pack is written whole or not at all.

    Args:
        data_root: Folder of the data set.
        out: Folder of the cache, made if need be.
        workers: Number of processes.
        on_error: ``skip`` leaves out slices that cannot be read, as if they were not stored.
        progress: Show a bar with the time that is left.

    Raises:
        FileNotFoundError: If there is no folder of slices.
        PackError: If ``out`` is the cache of another data set.
        SliceError: At the first slice that cannot be read, unless these are skipped.
        WorkerError: If a worker process dies; what is finished is kept.
        ValueError: If ``on_error`` or ``workers`` is none of its choices.
    """
    if on_error not in get_args(OnError):
        raise ValueError(f"on_error must be raise or skip, got {on_error!r}")
    start = time.monotonic()
    image_root, out = find_image_root(data_root), Path(out)
    series = list_series(image_root)
    out.mkdir(parents=True, exist_ok=True)
    strangers = sorted(set(list_packs(out)) - set(series))
    if strangers:
        raise PackError(
            f"{out} holds {len(strangers)} series that {image_root} has not, such as "
            f"{strangers[0]}: give another folder as --out, or delete the packs of deleted series"
        )
    (out / DONE_FILE).unlink(missing_ok=True)
    work = partial(pack_series, image_root=image_root, out=out, on_error=on_error)
    with process_map(work, series, workers, ordered=False) as finished:
        bar = tqdm(finished, "packing", len(series), unit="series", disable=not progress)
        reports = [report for report in bar if report.slices or report.complaints]
    summary = PackSummary(
        series=len(reports),
        kept=sum(report.kept for report in reports),
        slices=sum(report.slices for report in reports),
        png_bytes=sum(report.png_bytes for report in reports),
        packed_bytes=sum(report.packed_bytes for report in reports),
        skipped=tuple(sorted(c for report in reports for c in report.complaints)),
        seconds=time.monotonic() - start,
    )
    for leftover in out.glob(f".*{SUFFIX}"):  # of runs that were killed
        leftover.unlink(missing_ok=True)
    counts = {"series": summary.series, "slices": summary.slices, "skipped": summary.skipped}
    sizes = {"png_bytes": summary.png_bytes, "packed_bytes": summary.packed_bytes}
    write_json(out / DONE_FILE, {"version": VERSION, **counts, **sizes}, indent=2)
    return summary


def verify_series(series: str, out: Path, image_root: Path | None) -> SeriesReport:
    """Decode all slices of a pack by their checksums, and compare them with their files.

    Args:
        series: Name of the series.
        out: Folder of the cache.
        image_root: Folder of the series folders; None compares with nothing.

    Returns:
        Counts, and what is wrong.
    """
    try:
        pack = PackedSeries(out, series)
        pack.verify()
    except (PackError, OSError) as error:
        return SeriesReport(series, 0, 0, 0, complaints=(str(error),))
    complaints = [] if image_root is None else list(_differences(pack, image_root))
    size = pack.path.stat().st_size
    return SeriesReport(series, len(pack.numbers), 0, size, complaints=tuple(complaints))


def _differences(pack: PackedSeries, image_root: Path) -> Iterator[str]:
    """How a pack differs from its files, each compared pixel by pixel."""
    if not (image_root / pack.series).is_dir():
        yield f"{image_root / pack.series} is missing, and packed"
        return
    files = {file.number for file in list_slices(image_root, pack.series)}
    for number in sorted(files | set(pack.numbers)):
        path = key_slice_path(image_root, pack.series, number)
        if number not in files:
            yield f"{path} is missing, and packed"
            continue
        try:
            hu = read_hu(path)
        except SliceError as error:
            if number in pack.numbers:
                yield f"{error}, and packed"
            continue
        if number not in pack.numbers:
            yield f"{path} is not packed"
        elif not np.array_equal(hu, pack.read_key(number)):
            yield f"{path} is not what is packed"


def verify_cache(
    out: Path | str, data_root: Path | str | None = None, workers: int = 1, progress: bool = False
) -> tuple[int, list[str]]:
    """Verify a cache by the checksums of its slices, and against the files that it was made of.

    Args:
        out: Folder of the cache.
        data_root: Folder of the data set; None looks at the cache alone.
        workers: Number of processes.
        progress: Show a bar with the time that is left.

    Returns:
        Number of slices, and what is wrong; nothing if all is well.

    Raises:
        PackError: If the cache is not there or not finished.
        FileNotFoundError: If ``data_root`` has no folder of slices.
    """
    out = Path(out)
    image_root = None if data_root is None else find_image_root(data_root)
    check_cache(out)
    names = list_packs(out)
    complaints = []
    if image_root is not None:
        with_slices = (name for name in list_series(image_root) if list_slices(image_root, name))
        absent = sorted(set(with_slices) - set(names))
        complaints += [f"{image_root / name} is not packed" for name in absent]
    work = partial(verify_series, out=out, image_root=image_root)
    with process_map(work, names, workers) as finished:
        bar = tqdm(finished, "verifying", len(names), unit="series", disable=not progress)
        reports = list(bar)
    complaints += [complaint for report in reports for complaint in report.complaints]
    return sum(report.slices for report in reports), complaints
