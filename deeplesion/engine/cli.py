"""Errors of command-line tools: one plain line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from deeplesion.datasets.dl_info import DLInfoError
from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.config import UsageError

USER_ERRORS = (UsageError, CheckpointError, DLInfoError, FileNotFoundError, ConnectionError)


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
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
