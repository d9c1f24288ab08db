"""Tables of largest differences on docs/parity.md, written by the tests that measure them.

``UPDATE_DOCS=1 pytest tests/parity`` writes what was measured into the page.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deeplesion.io import atomic_write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"
# Another machine rounds otherwise: a page that promises this much more than is measured is wrong.
SLACK = 10
ALLOWED = "allowed"

# Largest differences by quantity.
Row = dict[str, float]


@dataclass(frozen=True)
class Table:
    """A table on the page, between ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    Attributes:
        name: Name of the table in the markers.
        subject: Header of the first column.
        limits: Columns, and how much is allowed in each.
    """

    name: str
    subject: str
    limits: Mapping[str, float]

    def check(self, rows: Mapping[str, Row]) -> None:
        """Compare measured rows with the limits and the page, or write them into it."""
        for label, row in rows.items():
            over = {name: value for name, value in row.items() if not value <= self.limits[name]}
            assert not over, f"{label}: {over}"
        if os.environ.get("UPDATE_DOCS"):
            self._write(self.on_page() | {label: self._cells(row) for label, row in rows.items()})
        page = self.on_page()
        for label, row in rows.items():
            assert label in page, f"{PAGE.name} has no row {label}: run with UPDATE_DOCS=1"
            for cell, (name, value) in zip(page[label], row.items(), strict=True):
                promised = max(SLACK * float(cell), self.limits[name] / 2)
                assert value <= promised, f"{label}, {name}: {cell} on the page, got {value:.1e}"

    def on_page(self) -> dict[str, list[str]]:
        """Cells of the rows on the page, but for the limits."""
        found = self._pattern.search(PAGE.read_text(encoding="utf-8"))
        assert found, f"{PAGE.name} has no markers of the table {self.name}"
        rows = (line.strip("| ").split(" | ") for line in found[0].splitlines()[3:])
        return {label: cells for label, *cells in rows}

    def _write(self, rows: Mapping[str, list[str]]) -> None:
        lines = [
            [self.subject, *self.limits],
            ["---", *("---:" for _ in self.limits)],
            [ALLOWED, *self._cells(dict(self.limits))],
            *([label, *cells] for label, cells in rows.items()),
        ]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        text = self._pattern.sub(lambda _: table, PAGE.read_text(encoding="utf-8"))
        with atomic_write(PAGE) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def _cells(self, row: Row) -> list[str]:
        assert row.keys() == self.limits.keys()
        return [shown(value) for value in row.values()]

    @property
    def _pattern(self) -> re.Pattern[str]:
        begin, end = (re.escape(f"<!-- {self.name}: {word} -->") for word in ("begin", "end"))
        return re.compile(rf"(?<={begin}\n).*(?={end})", re.DOTALL)


def shown(value: float) -> str:
    """One digit, rounded up: the page never promises more than was measured."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(value))
    digit = math.ceil(value / 10**power - 1e-9)
    return f"{digit * 10.0**power:.0e}"
