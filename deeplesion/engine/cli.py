"""Errors of command-line tools: one plain line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from deeplesion.datasets.lesion_record import DataError
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.config import UsageError

USER_ERRORS = (UsageError, CheckpointError, DataError, FileNotFoundError, ConnectionError)
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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
