"""A process of a benchmark's own that does something whenever it is told to.

What one contestant does to its process (how malloc hands out memory, above all) is nothing to the
others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

# The textbook way as it is by itself, and with malloc told as the tools tell it.
TEXTBOOK, TEXTBOOK_KEEPING = "textbook", "textbook, keeping freed memory"


class Worker:
    """Starts a script that calls :func:`serve`; it ends with the ``with`` block.

    Args:
        script: The script.
        *arguments: Of its command line.
        environment: Variables to be set beside those of this process.
    """

    def __init__(
        self, script: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def turn(self) -> dict[str, Any]:
        """Have it do it once; what it measured.

        Raises:
            RuntimeError: If it has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which the next line tells
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with exit code {self.process.wait()}")
        measured: dict[str, Any] = json.loads(line)
        return measured

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.__exit__(kind, error, traceback)


def serve(step: Callable[[], Mapping[str, Any] | None]) -> None:
    """Do a step for every line on stdin, and print what it measured as a line of JSON."""
    for _ in sys.stdin:
        print(json.dumps(step() or {}), flush=True)
