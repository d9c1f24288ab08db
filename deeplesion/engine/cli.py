"""Errors of command-line tools: one plain line instead of a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.config import UsageError
from deeplesion.engine.guard import NonFiniteError

# Come without a file's name where what is open already cannot be written further.
FULL = (errno.ENOSPC, errno.EDQUOT)
USER_ERRORS = (
    UsageError,
    CheckpointError,
    DataError,
    NonFiniteError,
    FileNotFoundError,
    ConnectionError,
)
# How PyTorch wraps the traceback of a worker into the message of the error that it raises again.
WORKER_PREFIX = "Caught "
WORKER_TRACEBACK = "\nOriginal Traceback"


def plain_message(error: BaseException) -> str:
    """The message of an error, without the traceback of the worker process that it came from."""
    text = str(error)
    if not (text.startswith(WORKER_PREFIX) and WORKER_TRACEBACK in text):
        return text
    last = text.rstrip().splitlines()[-1]
    return last.partition(": ")[2] or last


def check_targets(source: Path, targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse to write over the source, over anything unless asked to, or where no file can be.

    Args:
        source: The file to read.
        targets: The files to write.
        overwrite: Whether they may replace others.

    Raises:
        UsageError: One cannot be written, or its name cannot be told in a file of text.
    """
    for path in (source, *targets):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the name of a file must be UTF-8, got {str(path)!a}") from error
    for target in targets:
        if target.is_dir():
            raise UsageError(f"{target} is a folder: name a file")
        above = next(folder for folder in target.absolute().parents if folder.exists())
        if not above.is_dir():
            raise UsageError(f"{target} cannot be written: {above} is a file")
        if target.exists() and source.exists() and target.samefile(source):
            raise UsageError(f"{target} is what is to be converted: give another name")
        if target.exists() and not overwrite:
            raise UsageError(f"{target} exists: give --overwrite to replace it")


def run_tool(tool: Callable[[], None]) -> int:
    """Run a tool; what its user can mend ends in one line on stderr.

    Args:
        tool: What to do.

    Returns:
        Exit code: 0, 1 after an error of the user's, 130 after Ctrl-C.
    """
    try:
        tool()
    except USER_ERRORS as error:
        print(f"error: {plain_message(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        # Without a file's name it is none of the user's files, but a mistake of ours.
        if error.filename is None and error.errno not in FULL:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
