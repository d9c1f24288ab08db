"""Published results on DeepLesion's official test split, as ``reference.json`` has them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REFERENCE_FILE = Path(__file__).with_name("reference.json")
_TEXT_OR_NULL = (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "slices": (int, type(None)),
    "mean": (int, float),
    "sensitivity": (dict,),
    "title": (str,),
    "venue": (str,),
    "year": (int,),
    "arxiv": _TEXT_OR_NULL,
    "doi": _TEXT_OR_NULL,
    "confirmed": (bool,),
    "note": (str,),
}


@dataclass(frozen=True)
class Reference:
    """One published result.

    Attributes:
        method: Name of the method.
        slices: Slices that it looks at; None where unknown.
        mean: Mean sensitivity at 0.5, 1, 2 and 4 false positives per image, 0 to 1.
        sensitivity: By false positives per image, 0 to 1; those without a source are not there.
        title: Of the paper.
        venue: Where it appeared.
        year: When it appeared.
        arxiv: Number of the preprint; None where there is none.
        doi: Of the paper; None where it is not certain.
        confirmed: Whether ``mean`` was read in the paper itself. Tables mark it where it was not.
        note: Where it was read, or what else is known of it.
    """

    method: str
    slices: int | None
    mean: float
    sensitivity: dict[float, float]
    title: str
    venue: str
    year: int
    arxiv: str | None
    doi: str | None
    confirmed: bool
    note: str

    @property
    def label(self) -> str:
        """Such as ``A3D, 7 slices``."""
        return f"{self.method}, {self.slices} slices" if self.slices else self.method

    @property
    def source(self) -> str:
        """Title, venue, year, and where to find it."""
        where = [f"arXiv {self.arxiv}"] if self.arxiv else []
        where += [f"doi {self.doi}"] if self.doi else []
        return ", ".join([self.title, f"{self.venue} {self.year}", *where])


def read_references(path: str | os.PathLike[str] = REFERENCE_FILE) -> list[Reference]:
    """Read published results.

    Args:
        path: The file that ships with the package, or one of the same layout.

    Returns:
        Results in the order of the file; figures there are in %, those here from 0 to 1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or a row lacks something or has it in the wrong type.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}; mend it or take the one shipped") from error
    rows = content.get("results") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f"{path} must be an object with a list of 'results'")
    return [_reference(row, f"result {index} of {path}") for index, row in enumerate(rows)]


def _reference(row: Any, where: str) -> Reference:
    if not isinstance(row, Mapping):
        raise ValueError(f"{where} must be an object, got {row!r}")
    for name, types in _TYPES.items():
        if name not in row:
            raise ValueError(f"{where} has no {name!r}: add it")
        if not isinstance(row[name], types) or (bool not in types and isinstance(row[name], bool)):
            wanted = " or ".join("null" if t is type(None) else t.__name__ for t in types)
            raise ValueError(f"{where}: {name!r} must be {wanted}, got {row[name]!r}")
    fields = {name: row[name] for name in _TYPES}
    given = {float(fps): value for fps, value in row["sensitivity"].items() if value is not None}
    for value in (row["mean"], *given.values()):
        if not 0 <= value <= 100:
            raise ValueError(f"{where}: figures must be from 0 to 100 %, got {value}")
    fields["mean"] = row["mean"] / 100
    fields["sensitivity"] = {fps: value / 100 for fps, value in given.items()}
    return Reference(**fields)
