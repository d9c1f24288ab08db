"""What mmdetection says on import that no user of this project can act on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

# onedl-mmdetection prints this, past its logger, for its makers' private data format.
ONEDL_LINE = "Could not import OneDL. Skipping OneDL datasets.\n"
# ... and warns of an optional metric, as if somebody had asked for it.
FASTER_COCO_WARNING = "faster_coco_eval is not installed, metrics will not be computed"


class _DroppingOneLine:
    """A text stream that passes everything on but one line."""

    def __init__(self, stream: TextIO, line: str) -> None:
        self._stream = stream
        self._line = line
        self._held = ""

    def write(self, text: str) -> int:
        for piece in text.splitlines(keepends=True):
            self._held += piece
            if self._held == self._line:
                self._held = ""
            elif not self._line.startswith(self._held):
                self.release()
        return len(text)

    def release(self) -> None:
        """Pass on what might have become the line and did not."""
        self._stream.write(self._held)
        self._held = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Leave out the two known messages of importing mmdet while the block runs, and no others.

    The warning filters and ``sys.stdout`` are as before afterwards.
    """
    stdout: Any = _DroppingOneLine(sys.stdout, ONEDL_LINE)
    with warnings.catch_warnings(), redirect_stdout(stdout):
        warnings.filterwarnings("ignore", FASTER_COCO_WARNING, UserWarning)
        try:
            yield
        finally:
            stdout.release()
