"""A journal of work that takes hours: what is finished survives an interruption.

One line of JSON per finished item, behind a first line that tells what the items depend on. The
name of a journal is of its settings too, so that a run with others does not touch it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

Entry = dict[str, Any]

HASH_DIGITS = 8


def journal_path(out: Path, settings: Entry) -> Path:
    """Where the finished items of ``out`` are kept until all are, by what they depend on."""
    text = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
    return out.with_name(f"{out.name}.{digest}.partial.jsonl")


class Journal:
    """Finished items on disk, each with its ``file_name``, behind the settings they depend on."""

    def __init__(self, path: Path, settings: Entry) -> None:
        self.path = path
        self.settings = settings

    def read(self) -> dict[str, Entry]:
        """Finished items by file name; none where the journal is of other settings or absent.

        A line that a kill cut short ends what is read, and is cut off the file.
        """
        entries: dict[str, Entry] = {}
        if not self.path.exists():
            return entries
        good = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                parsed = _parse_line(line)
                if parsed is None or (number == 0 and parsed != {"settings": self.settings}):
                    break
                if number > 0:
                    entries[parsed["file_name"]] = parsed
                good += len(line)
        os.truncate(self.path, good)
        return entries

    @contextmanager
    def append(self) -> Iterator[IO[str]]:
        """Open for more lines, after :meth:`read` has left whole ones only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() == 0:
                write_line(file, {"settings": self.settings})
            yield file

    def remove(self) -> None:
        """Delete it: everything is in its file."""
        self.path.unlink(missing_ok=True)


def _parse_line(line: bytes) -> Entry | None:
    if not line.endswith(b"\n"):
        return None
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def write_line(file: IO[str], entry: Entry) -> None:
    """Append one entry so that a kill later on does not lose it."""
    file.write(json.dumps(entry) + "\n")
    file.flush()
