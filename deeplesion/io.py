"""Writing files so that an interrupted run never leaves half of one behind."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place on success.

    The temporary file lies in the same folder, for a rename is atomic only within one file
    system, and keeps the suffix, for many writers choose the format by it. Where ``path`` is a
    symbolic link, what it points to is replaced and the link stays. Missing parent folders are
    made. On an exception the temporary file is removed and ``path`` stays as it was.

    Args:
        path: Where the file shall be.
        durable: Wait until file and rename are on the disk, so that not even a machine that loses
            its power is left with a torn one.

    Yields:
        The path to write to.

    Example:
        >>> with atomic_write("out/froc.png") as tmp:
        ...     figure.savefig(tmp)
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}.", suffix=Path(path).suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes files that only their owner can read; ours shall follow the umask.
        temporary.chmod(_mode_of(target))
        yield temporary
        if durable:
            sync_to_disk(temporary)
        temporary.replace(target)
        if durable:
            sync_to_disk(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until what a file, or the list of files of a folder, holds is on the disk.

    Args:
        path: The file or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(
    path: str | os.PathLike[str], obj: Any, indent: int | None = None, *, allow_nan: bool = True
) -> None:
    """Write ``obj`` as JSON by :func:`atomic_write`; numpy arrays and scalars are taken.

    Args:
        path: Where the file shall be.
        obj: What to write. NaN is written as ``NaN``, which Python's ``json`` reads back.
        indent: Spaces per level; None puts everything on one line.
        allow_nan: False to refuse NaN and infinity, which strict JSON has no words for.

    Raises:
        ValueError: If ``obj`` has NaN or infinity and may not.
        TypeError: If something in ``obj`` is not JSON's.
    """
    with atomic_write(path) as temporary:
        text = json.dumps(obj, indent=indent, default=_plain, allow_nan=allow_nan)
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write a {type(value).__name__} as JSON: {value!r}")


def _mode_of(path: Path) -> int:
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
