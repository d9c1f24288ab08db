"""Masks of a whole split: made by several processes, written to one file, resumed if interrupted.

A journal beside the file keeps the key slices that are finished. It is tied to the settings and to
``DL_info.csv``, so that masks of different ones never mix.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import cv2
from tqdm import tqdm

from deeplesion.datasets.ct import SliceError, read_slice
from deeplesion.datasets.dl_info import (
    KeySlice,
    find_image_root,
    group_by_key_slice,
    key_slice_path,
    read_dl_info,
)
from deeplesion.datasets.journal import Entry, Journal, journal_path, write_line
from deeplesion.datasets.masks import (
    CONTEXT_PX,
    ITERATIONS,
    encode_mask,
    lesion_mask,
    window_to_uint8,
)
from deeplesion.datasets.workers import process_map
from deeplesion.io import write_json

SPLITS = ("train", "val", "test")
INFO_FILE = "DL_info.csv"

OnError = Literal["raise", "skip"]


class EmptySplitError(ValueError):
    """A split without rows in ``DL_info.csv``."""


@dataclass(frozen=True)
class MaskJob:
    """What masks to make, and how.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        out: file to write, by default ``masks_{split}.json`` in the data root.
        workers: number of processes.
        seed: for GrabCut.
        keep_noisy: make masks for rows marked ``Possibly_noisy`` too.
        on_error: ``skip`` drops and counts key slices that cannot be read.
    """

    split: str
    out: Path | None = None
    workers: int = 1
    seed: int = 0
    keep_noisy: bool = False
    on_error: OnError = "raise"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.workers < 1:
            raise ValueError(f"workers must be >= 1, got {self.workers}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be 0 to 2**31 - 1, got {self.seed}")
        if self.on_error not in get_args(OnError):
            raise ValueError(f"on_error must be raise or skip, got {self.on_error!r}")


@dataclass(frozen=True)
class MaskSummary:
    """What became of a split: counts, and the time of this run in seconds.

    Attributes:
        key_slices: written.
        resumed: of these, taken from the journal of an interrupted run.
        grabcut: lesions cut out by GrabCut.
        ellipse: lesions that fell back to the RECIST ellipse.
        skipped: what is wrong with each key slice that was left out.
        seconds: duration.
    """

    key_slices: int
    resumed: int
    grabcut: int
    ellipse: int
    skipped: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.grabcut + self.ellipse} lesions on {self.key_slices} key slices: "
            f"{self.grabcut} by GrabCut, {self.ellipse} RECIST ellipses; "
            f"{self.resumed} key slices resumed, {len(self.skipped)} skipped; {self.seconds:.1f} s"
        )


def mask_key_slice(key_slice: KeySlice, image_root: Path, seed: int, on_error: OnError) -> Entry:
    """Make the masks of all lesions of a key slice.

    Returns:
        ``file_name``, ``masks``, how many by ``grabcut`` and by ``ellipse``, and ``error``: None or
        why the slice is left out.

    Raises:
        SliceError: if the slice cannot be read and ``on_error`` is ``raise``; names file and row.
    """
    first = key_slice.first
    path = key_slice_path(image_root, first.series, first.key_slice)
    entry: Entry = {"file_name": key_slice.file_name, "masks": []}
    entry |= {"grabcut": 0, "ellipse": 0, "error": None}
    try:
        hu = read_slice(path, first.image_size)
    except SliceError as error:
        message = f"{error} (row {first.row} of {INFO_FILE})"
        if on_error == "raise":
            raise SliceError(message) from error
        return {**entry, "error": message}
    for lesion in key_slice.lesions:
        grey = window_to_uint8(hu, lesion.window)
        made = lesion_mask(grey, lesion.bbox, lesion.recist, seed=seed)
        entry["masks"].append({"bbox": list(lesion.bbox), **encode_mask(made.mask)})
        entry[made.source] += 1
    return entry


def make_masks(data_root: Path | str, job: MaskJob, progress: bool = False) -> MaskSummary:
    """Write the masks of a split; the file depends on the data, the split and the seed alone.

    Args:
        data_root: folder of ``DL_info.csv`` and the images.
        job: what to make, and how.
        progress: show a bar with the time that is left.

    Raises:
        FileNotFoundError: if there is no ``DL_info.csv`` or no folder of slices.
        EmptySplitError: if the split has no rows.
        DLInfoError: at a malformed row of ``DL_info.csv``.
        SliceError: at the first key slice that cannot be read, unless these are skipped.
    """
    start = time.monotonic()
    root = Path(data_root)
    out = job.out or root / f"masks_{job.split}.json"
    records = read_dl_info(root / INFO_FILE, keep_noisy=job.keep_noisy)
    key_slices = group_by_key_slice(records, job.split, keep_noisy=job.keep_noisy)
    if not key_slices:
        raise EmptySplitError(f"no key slice of split {job.split!r} in {root / INFO_FILE}")
    settings = _settings(root / INFO_FILE, job)
    journal = Journal(journal_path(out), settings)
    entries = journal.read()
    resumed = len(entries)
    left = [key_slice for key_slice in key_slices if key_slice.file_name not in entries]
    with tqdm(
        desc=f"masks {job.split}",
        total=len(key_slices),
        initial=resumed,
        unit="slice",
        disable=not progress,
    ) as bar:
        for entry in _process(root, left, job, journal):
            entries[entry["file_name"]] = entry
            bar.update()
    ordered = [entries[key_slice.file_name] for key_slice in key_slices]
    summary = _summarize(ordered, resumed, time.monotonic() - start)
    counts = {
        "grabcut": summary.grabcut,
        "ellipse": summary.ellipse,
        "skipped": len(summary.skipped),
    }
    masks = {entry["file_name"]: entry["masks"] for entry in ordered if entry["error"] is None}
    write_json(out, {"meta": {**settings, **counts}, "masks": masks})
    journal.remove()
    return summary


def _process(
    root: Path, key_slices: list[KeySlice], job: MaskJob, journal: Journal
) -> Iterator[Entry]:
    if not key_slices:
        return
    work = partial(
        mask_key_slice, image_root=find_image_root(root), seed=job.seed, on_error=job.on_error
    )
    with (
        journal.append() as file,
        process_map(work, key_slices, job.workers, ordered=False) as finished,
    ):
        for entry in finished:
            # What was skipped is looked at again by a later run: it may be there by then.
            if entry["error"] is None:
                write_line(file, entry)
            yield entry


def _settings(info: Path, job: MaskJob) -> Entry:
    """All that the masks depend on but the images."""
    return {
        "source": "grabcut",
        "split": job.split,
        "keep_noisy": job.keep_noisy,
        "seed": job.seed,
        "iterations": ITERATIONS,
        "context_px": CONTEXT_PX,
        "opencv": cv2.__version__,
        "dl_info_sha256": hashlib.sha256(info.read_bytes()).hexdigest(),
    }


def _summarize(entries: Iterable[Entry], resumed: int, seconds: float) -> MaskSummary:
    entries = list(entries)
    skipped = tuple(entry["error"] for entry in entries if entry["error"] is not None)
    return MaskSummary(
        key_slices=len(entries) - len(skipped),
        resumed=resumed,
        grabcut=sum(entry["grabcut"] for entry in entries),
        ellipse=sum(entry["ellipse"] for entry in entries),
        skipped=skipped,
        seconds=seconds,
    )
