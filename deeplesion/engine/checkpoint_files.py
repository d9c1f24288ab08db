"""Which checkpoint of a folder a training goes on from, though it died while writing one."""

from __future__ import annotations

import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process

from deeplesion.engine.checkpoint import CheckpointError, read_content
from deeplesion.io import atomic_write

LAST_CHECKPOINT = "last_checkpoint"
SUFFIX = ".pth"
#: Value of ``resume`` in a config: the work folder's furthest checkpoint, or a new beginning.
AUTO = "auto"
#: What mmengine needs beside weights to go on with a training.
TRAINING_STATE = {"meta", "message_hub", "optimizer"}
#: Key in ``meta`` of what the run was, see :func:`deeplesion.engine.resuming.describe_run`.
RUN = "run"
# Names that deeplesion.io.atomic_write gives to files while they are written.
TEMPORARY = re.compile(
    r"\.(?:last_checkpoint\.[a-z0-9_]{8}|scalars\.[a-z0-9_]{8}\.jsonl|.+\.[a-z0-9_]{8}\.pth)"
)


@dataclass(frozen=True)
class Header:
    """What is known of a checkpoint before its tensors are read.

    Attributes:
        path: The file.
        meta: Its ``meta``, as mmengine writes it.
        resumable: Whether it holds the state of a training.
    """

    path: Path
    meta: Mapping[str, Any]
    resumable: bool

    @property
    def run(self) -> str | None:
        """Identity of the training that wrote it; a folder may have files of several."""
        return self.meta.get(RUN, {}).get("identity")

    @property
    def progress(self) -> tuple[int, int, int]:
        """What grows with the training: iterations, whether they were validated, time."""
        iteration = self.meta.get("iter", 0)
        validated = self.meta.get(RUN, {}).get("validated") == iteration
        return iteration, int(validated), self.path.stat().st_mtime_ns


def read_header(path: Path) -> Header:
    """Read the head of a checkpoint; tensors stay on the disk.

    Args:
        path: A checkpoint file.

    Raises:
        CheckpointError: It is torn, or no checkpoint.
    """
    content = read_content(path, mmap=zipfile.is_zipfile(path))
    meta = content.get("meta")
    return Header(path, meta if isinstance(meta, dict) else {}, content.keys() >= TRAINING_STATE)


def check_whole(path: Path) -> None:
    """Refuse a checkpoint whose parts have other checksums than they were written with.

    Args:
        path: A checkpoint file. Those in PyTorch's format of before 2020 have no checksums.

    Raises:
        CheckpointError: It is torn.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, NotImplementedError) as error:
        raise CheckpointError(f"checkpoint {path} is torn: {error}") from error
    if bad is not None:
        raise CheckpointError(f"checkpoint {path} is torn: the checksum of {bad} is wrong")


@dataclass(frozen=True)
class Choice:
    """The checkpoint to go on from.

    Attributes:
        header: Of the furthest whole checkpoint; ``None`` where the folder has none at all.
        complaints: What is wrong with those that were passed over.
    """

    header: Header | None
    complaints: tuple[str, ...]


def find_resumable(folder: Path) -> Choice:
    """Find the furthest whole checkpoint of the training that a folder saw last.

    Args:
        folder: The work folder.

    Returns:
        The checkpoint, and what is wrong with torn ones.

    Raises:
        CheckpointError: There are checkpoints, but none that a training can go on from.
    """
    files = _checkpoints(folder)
    if not files and (other := _other_folder(folder)) is not None:
        return find_resumable(other)
    headers, complaints = [], []
    for path in files:
        try:
            headers.append(read_header(path))
        except CheckpointError as error:
            complaints.append(str(error))
    for header in _furthest_first([header for header in headers if header.resumable], folder):
        try:
            check_whole(header.path)
        except CheckpointError as error:
            complaints.append(str(error))
        else:
            return Choice(header, tuple(complaints))
    if files:
        why = "; ".join(complaints) or "they hold weights only"
        raise CheckpointError(
            f"no checkpoint in {folder} can be resumed: {why}. Name another one by --resume FILE, "
            "or leave out --resume to begin anew"
        )
    return Choice(None, ())


def agree_on_checkpoint(resume: bool | str, load_from: str | None, folder: str) -> Choice:
    """Choose the checkpoint to go on from, the same in all processes; each must call this.

    Args:
        resume: Of the config: ``"auto"``, a file, or ``True``.
        load_from: Of the config; what is resumed by ``True``.
        folder: The work folder, where there is no file to resume.

    Returns:
        The choice of the first process.

    Raises:
        CheckpointError: There is none that a training can go on from.
    """
    named = load_from if resume is True else None if resume == AUTO else str(resume)
    found: list[Any] = [None]
    if is_main_process():
        try:
            found = [_choose(named, folder)]
        except CheckpointError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], CheckpointError):
        raise found[0]
    return found[0]


def _choose(named: str | None, folder: str) -> Choice:
    if named is None:
        return find_resumable(Path(folder))
    header = read_header(Path(named))
    check_whole(header.path)
    return Choice(header, ())


@contextmanager
def writing(folder: str, filename: str) -> Iterator[tuple[str, str]]:
    """Give folder and name to write a checkpoint to, which takes its place when it is on the disk.

    Args:
        folder: Where it shall be; what is written to another machine (``s3://...``) goes there as
            it is.
        filename: Its name.

    Yields:
        Folder and name to write to.

    Raises:
        CheckpointError: The disk does not take it.
    """
    if "://" in folder:
        yield folder, filename
        return
    path = Path(folder) / filename
    try:
        with atomic_write(path, durable=True) as temporary:
            yield str(temporary.parent), temporary.name
    except OSError as error:
        free = shutil.disk_usage(Path(folder)).free / 2**20
        raise CheckpointError(
            f"checkpoint {path} cannot be written: {error.strerror or error} ({free:.0f} MiB are "
            "free). Those before it are whole: make room and go on with --resume"
        ) from error


def remove_temporary_files(folder: Path) -> list[str]:
    """Remove what killed runs left half written; nothing else may run in the folder.

    Args:
        folder: The work folder.

    Returns:
        Names of the files that were removed.
    """
    torn = [path for path in _files(folder) if TEMPORARY.fullmatch(path.name)]
    for path in torn:
        path.unlink(missing_ok=True)
    return [path.name for path in torn]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob(".*")) if path.is_file())


def _furthest_first(headers: list[Header], folder: Path) -> list[Header]:
    """The checkpoints of the run that wrote last."""
    if not headers:
        return []
    pointer = folder / LAST_CHECKPOINT
    last = Path(pointer.read_text(errors="replace").strip()).name if pointer.is_file() else None
    newest = max(headers, key=lambda h: (h.path.name == last, _written(h)))
    # What is further but older is of a branch that somebody went back behind.
    of_run = [
        header
        for header in headers
        if header.run == newest.run
        and (header.progress[0] <= newest.progress[0] or _written(header) >= _written(newest))
    ]
    return sorted(of_run, key=lambda header: header.progress, reverse=True)


def _written(header: Header) -> int:
    return header.path.stat().st_mtime_ns


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _other_folder(folder: Path) -> Path | None:
    """The folder of checkpoints that a training wrote to instead, by ``out_dir`` of its hook."""
    pointer = folder / LAST_CHECKPOINT
    if not pointer.is_file():
        return None
    other = Path(pointer.read_text(errors="replace").strip()).parent
    return other if other.resolve() != folder.resolve() and _checkpoints(other) else None
