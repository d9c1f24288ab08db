"""Blocks of rows of ``DL_info.csv`` become lesions, or problems where rows are bad."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from deeplesion.datasets.lesion_record import SPLITS, LesionRecord, Problem
from deeplesion.datasets.row_parser import FILE_NAME, RowError, is_noisy, parse_rows, row_errors

#: Line of a row, the header being line 1, and its cells.
Row = tuple[int, list[str]]

#: What all lesions of one key slice must have in common.
_SHARED = ("image_size", "spacing", "slice_interval", "split")
_SPLIT_CODES = {str(code): split for code, split in enumerate(SPLITS, start=1)}


class RowScanner:
    """Reads rows, and remembers what the key slices of those before are like.

    Args:
        path: The CSV, to be named in problems.
        header: Names of the columns; all of :data:`COLUMNS` are among them.
        keep_noisy: Whether rows marked ``Possibly_noisy`` are read; if not, they are not looked
            at beyond that mark.
        every_problem: Whether all problems of a bad row are yielded, not just the first.
    """

    def __init__(
        self, path: str, header: Sequence[str], keep_noisy: bool, every_problem: bool
    ) -> None:
        self._path, self._header = path, header
        self._keep_noisy, self._every_problem = keep_noisy, every_problem
        self._places = {column: place for place, column in enumerate(header)}
        self._firsts: dict[str, LesionRecord] = {}

    def scan(self, rows: Sequence[Row]) -> Iterator[LesionRecord | Problem]:
        """Yield a lesion for each good row and problems for each bad one, in their order.

        Rows are read all at once. Where one is bad, either half of them is, and so on down to
        that row: bad ones are few, and each rule need not know how many rows there are.
        """
        try:
            lesions = self._lesions(rows)
        except RowError as fault:
            if len(rows) == 1:
                yield from self._problems(rows[0], fault)
            else:
                half = len(rows) // 2
                yield from self.scan(rows[:half])
                yield from self.scan(rows[half:])
        else:
            yield from lesions

    def _lesions(self, rows: Sequence[Row]) -> list[LesionRecord]:
        for _, cells in rows:
            if len(cells) != len(self._header):
                wanted = f"a row must have {len(self._header)} cells"
                raise RowError("", f"{wanted}, got {len(cells)}")
        if not _is_unicode("".join(chain.from_iterable(cells for _, cells in rows))):
            raise RowError("", "a row must be UTF-8 text, and this one is not")
        if not self._keep_noisy:
            place = self._places["Possibly_noisy"]
            marks = is_noisy([cells[place] for _, cells in rows])
            rows = [row for row, noisy in zip(rows, marks, strict=True) if not noisy]
        if not rows:
            return []
        lines, cells_of_rows = zip(*rows, strict=True)
        columns = dict(zip(self._header, zip(*cells_of_rows, strict=True), strict=True))
        lesions = parse_rows(columns, lines)
        for lesion in lesions:
            _check_agreement(lesion, self._firsts.setdefault(lesion.file_name, lesion))
        return lesions

    def _problems(self, row: Row, fault: RowError) -> Iterator[Problem]:
        line, texts = row
        cells = dict(zip(self._header, texts, strict=False))
        name = cells.get("File_name", "").strip()
        file_name = name if FILE_NAME.fullmatch(name) else ""
        split = _SPLIT_CODES.get(cells.get("Train_Val_Test", "").strip())
        remedy = "correct or remove the row, or set on_error='skip' to drop its key slice"
        every = list(row_errors(cells)) if self._every_problem and fault.column else []
        for found in every or [fault]:
            column, message = found.column, found.complaint
            value = cells[column] if column else ""
            if column:
                message = f"{column} {message}, got {value!r}"
            yield Problem(self._path, message, remedy, line, column, value, file_name, split)


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_agreement(lesion: LesionRecord, first: LesionRecord) -> None:
    if lesion is first:
        return
    for name in _SHARED:
        mine, other = getattr(lesion, name), getattr(first, name)
        if mine != other:
            complaint = f"{lesion.file_name}: {name} must be that of row {first.row}, {other}"
            raise RowError("", f"{complaint}, got {mine}")
