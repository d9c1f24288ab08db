"""The key slices of a split, without those that have malformed rows."""

from __future__ import annotations

import os
from typing import NamedTuple

from deeplesion.datasets.dl_info import KeySlice, group_by_key_slice, scan_dl_info
from deeplesion.datasets.lesion_record import DLInfoError, LesionRecord, Problem


class Selection(NamedTuple):
    """Key slices of a split, and what was left out of it.

    Attributes:
        key_slices: Those all of whose rows are good.
        rows: Problem of each malformed row that does not tell its key slice.
        dropped: By the file name of a key slice with malformed rows: the first problem of it.
    """

    key_slices: list[KeySlice]
    rows: list[Problem]
    dropped: dict[str, Problem]

    def first_problem(self) -> Problem | None:
        """The problem of the earliest row."""
        problems = [*self.rows, *self.dropped.values()]
        return min(problems, key=lambda problem: problem.row or 0, default=None)


def select_key_slices(
    path: str | os.PathLike[str], split: str | None = None, keep_noisy: bool = False
) -> Selection:
    """Read the key slices of a split whose rows are all good.

    A key slice with a malformed row goes as a whole: with some of its lesions left out, what a
    detector finds of them would be taught, and counted, as false. A malformed row that does not
    tell its split is one of every split.

    Args:
        path: ``DL_info.csv``.
        split: ``train``, ``val``, ``test``, or None for all.
        keep_noisy: As in :func:`group_by_key_slice`.

    Raises:
        FileNotFoundError: If there is no such file.
        DLInfoError: If the file as a whole cannot be read, for a column is missing, say.
    """
    records: list[LesionRecord] = []
    rows: list[Problem] = []
    dropped: dict[str, Problem] = {}
    for item in scan_dl_info(path, keep_noisy):
        if not isinstance(item, Problem):
            records.append(item)
        elif item.ends_reading:
            raise DLInfoError(item)
        elif split is not None and item.split not in (None, split):
            continue
        elif item.file_name:
            dropped.setdefault(item.file_name, item)
        else:
            rows.append(item)
    splits = {record.file_name: record.split for record in records}
    dropped = {n: p for n, p in dropped.items() if split in (None, splits.get(n, split))}
    groups = group_by_key_slice(records, split, keep_noisy)
    return Selection([g for g in groups if g.file_name not in dropped], rows, dropped)
