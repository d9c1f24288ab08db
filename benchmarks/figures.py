"""One measured figure beside what it is compared with, and whether its bar holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: ``speedup``: reference / ours, at least the bar. ``share``: ours / reference, at most the bar.
#: ``limit``: ours, at most the bar.
Kind = Literal["speedup", "share", "limit"]


@dataclass(frozen=True)
class Figure:
    """A figure of ours and its bar.

    Attributes:
        key: Name in JSON, such as ``sample_png``.
        what: What was measured, for people.
        unit: Of ``ours`` and ``reference``: ``s`` or ``MB``.
        ours: Measured of the library.
        reference: Measured in the same run of what it is compared with; None for a ``limit``.
        against: What that is, such as ``textbook``.
        kind: How they are compared.
        bar: What the comparison is held to; None where nothing was promised.
        spread: Quartiles of the comparison over rounds, where it was measured in rounds.
        note: What a reader must know.

    Raises:
        ValueError: If ``kind`` is unknown, or ``reference`` missing where it is needed.
    """

    key: str
    what: str
    unit: str
    ours: float
    reference: float | None
    against: str
    kind: Kind
    bar: float | None = None
    spread: tuple[float, float] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, got {self.kind!r}")
        if self.kind != "limit" and self.reference is None:
            raise ValueError(f"reference of {self.key} must be a number, got None")

    @property
    def value(self) -> float:
        """The comparison: a ratio, or ``ours`` itself for a ``limit``."""
        if self.kind == "limit" or self.reference is None:
            return self.ours
        return self.reference / self.ours if self.kind == "speedup" else self.ours / self.reference

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None where there is none."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.kind == "speedup" else self.value <= self.bar
