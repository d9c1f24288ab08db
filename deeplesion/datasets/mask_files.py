"""Masks of a whole split: made by several processes, written to one file, resumed if interrupted.

A journal beside the file keeps the key slices that are finished. It is tied to the settings and to
``DL_info.csv``, so that masks of different ones never mix; so is the file, which is not made again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import cv2
from tqdm import tqdm

from deeplesion.datasets.ct import SliceError, read_slice, window_to_uint8
from deeplesion.datasets.dl_info import (
    INFO_FILE,
    SPLITS,
    KeySlice,
    find_image_root,
    key_slice_path,
)
from deeplesion.datasets.journal import Entry, Journal, journal_path, write_line
from deeplesion.datasets.lesion_record import DataError, DLInfoError
from deeplesion.datasets.masks import (
    CONTEXT_PX,
    ITERATIONS,
    encode_mask,
    lesion_mask,
    published_gray,
)
from deeplesion.datasets.selection import Selection, select_key_slices
from deeplesion.datasets.workers import process_map
from deeplesion.io import write_json

OnError = Literal["raise", "skip"]


class EmptySplitError(DataError):
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
        on_error: ``skip`` drops and counts key slices that cannot be read or have malformed rows.
        overwrite: make the masks again where they are made already.
        legacy: cut in the image that the published code cut in, as it did.
    """

    split: str
    out: Path | None = None
    workers: int = 1
    seed: int = 0
    keep_noisy: bool = False
    on_error: OnError = "raise"
    overwrite: bool = False
    legacy: bool = False

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
        already_made: nothing was done, for the file was there, of the same settings and complete.
    """

    key_slices: int
    resumed: int
    grabcut: int
    ellipse: int
    skipped: tuple[str, ...]
    seconds: float
    already_made: bool = False

    def __str__(self) -> str:
        made = "already made: " if self.already_made else ""
        return (
            f"{made}{self.grabcut + self.ellipse} lesions on {self.key_slices} key slices: "
            f"{self.grabcut} by GrabCut, {self.ellipse} RECIST ellipses; "
            f"{self.resumed} key slices resumed, {len(self.skipped)} skipped; {self.seconds:.1f} s"
        )


def mask_key_slice(
    key_slice: KeySlice, image_root: Path, seed: int, on_error: OnError, legacy: bool = False
) -> Entry:
    """Make the masks of all lesions of a key slice.

    Each is cut in the slice as its own window (``DICOM_windows``) shows it, unless ``legacy``.

    Returns:
        ``file_name``, ``masks``, how many by ``grabcut`` and by ``ellipse``, and ``error``: None or
        why the slice is left out.

    Raises:
        DataError: if the slice cannot be read, or OpenCV fails on it, and ``on_error`` is
            ``raise``; names file and row.
    """
    first = key_slice.first
    path = key_slice_path(image_root, first.series, first.key_slice)
    entry: Entry = {"file_name": key_slice.file_name, "masks": []}
    entry |= {"grabcut": 0, "ellipse": 0, "error": None}
    row = first.row
    try:
        hu = read_slice(path, first.image_size)
        for lesion in key_slice.lesions:
            row = lesion.row
            gray = published_gray(hu) if legacy else window_to_uint8(hu, lesion.window)
            made = lesion_mask(gray, lesion.bbox, lesion.recist, seed=seed, legacy=legacy)
            entry["masks"].append({"bbox": list(lesion.bbox), **encode_mask(made.mask)})
            entry[made.source] += 1
    except (SliceError, cv2.error) as error:
        what = str(error) if isinstance(error, SliceError) else f"{path}: OpenCV failed: {error}"
        message = f"{what.strip()} (row {row} of {INFO_FILE})"
        if on_error == "raise":
            raise (SliceError if isinstance(error, SliceError) else DataError)(message) from error
        return {**entry, "masks": [], "grabcut": 0, "ellipse": 0, "error": message}
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
        DLInfoError: at the first malformed row of the split, unless these are skipped.
        SliceError: at the first key slice that cannot be read, unless these are skipped.
        WorkerError: if a worker process dies; what is finished is kept.
    """
    start = time.monotonic()
    root = Path(data_root)
    out = job.out or root / f"masks_{job.split}.json"
    selection = select_key_slices(root / INFO_FILE, job.split, job.keep_noisy)
    problem = selection.first_problem()
    if problem is not None and job.on_error == "raise":
        raise DLInfoError(problem)
    if not selection.key_slices and problem is None:
        raise EmptySplitError(f"no key slice of split {job.split!r} in {root / INFO_FILE}")
    settings = _settings(root / INFO_FILE, job)
    if not job.overwrite and (made := _already_made(out, settings)) is not None:
        return made
    journal = Journal(journal_path(out, settings), settings)
    entries = journal.read()
    resumed = len(entries)
    ordered = _all_entries(root, selection.key_slices, entries, job, journal, progress)
    summary = _summarize(ordered, selection, resumed, time.monotonic() - start)
    counts = {
        "grabcut": summary.grabcut,
        "ellipse": summary.ellipse,
        "skipped": len(summary.skipped),
    }
    masks = {entry["file_name"]: entry["masks"] for entry in ordered if entry["error"] is None}
    write_json(out, {"meta": {**settings, **counts}, "masks": masks})
    journal.remove()
    return summary


def _already_made(out: Path, settings: Entry) -> MaskSummary | None:
    """What a complete file of the same settings holds; None where there is none."""
    try:
        content = json.loads(out.read_text(encoding="utf-8"))
        meta, count = content["meta"], len(content["masks"])
        if meta["skipped"] or {key: meta.get(key) for key in settings} != settings:
            return None
        return MaskSummary(count, 0, meta["grabcut"], meta["ellipse"], (), 0.0, already_made=True)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not a file of ours, which is to be made


def _all_entries(
    root: Path,
    key_slices: list[KeySlice],
    entries: dict[str, Entry],
    job: MaskJob,
    journal: Journal,
    progress: bool,
) -> list[Entry]:
    """Entries of all key slices in their order, of which ``entries`` are finished."""
    left = [key_slice for key_slice in key_slices if key_slice.file_name not in entries]
    with tqdm(
        desc=f"masks {job.split}",
        total=len(key_slices),
        initial=len(entries),
        unit="slice",
        disable=not progress,
    ) as bar:
        for entry in _process(root, left, job, journal):
            entries[entry["file_name"]] = entry
            bar.update()
    return [entries[key_slice.file_name] for key_slice in key_slices]


def _process(
    root: Path, key_slices: list[KeySlice], job: MaskJob, journal: Journal
) -> Iterator[Entry]:
    if not key_slices:
        return
    work = partial(
        mask_key_slice,
        image_root=find_image_root(root),
        seed=job.seed,
        on_error=job.on_error,
        legacy=job.legacy,
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
        "source": "published grabcut" if job.legacy else "grabcut",
        "split": job.split,
        "keep_noisy": job.keep_noisy,
        "seed": job.seed,
        "iterations": ITERATIONS,
        "context_px": CONTEXT_PX,
        "opencv": cv2.__version__,
        "dl_info_sha256": hashlib.sha256(info.read_bytes()).hexdigest(),
    }


def _summarize(
    entries: list[Entry], selection: Selection, resumed: int, seconds: float
) -> MaskSummary:
    unreadable = [entry["error"] for entry in entries if entry["error"] is not None]
    malformed = map(str, (*selection.rows, *selection.dropped.values()))
    skipped = (*malformed, *unreadable)
    return MaskSummary(
        key_slices=len(entries) - len(unreadable),
        resumed=resumed,
        grabcut=sum(entry["grabcut"] for entry in entries),
        ellipse=sum(entry["ellipse"] for entry in entries),
        skipped=skipped,
        seconds=seconds,
    )
