"""One measured figure beside what it is compared with, and whether its bar holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

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

    def record(self) -> dict[str, Any]:
        """All of it, the comparison and its verdict included, for JSON."""
        return {**asdict(self), "value": self.value, "holds": self.holds}


def of_rounds(
    key: str,
    what: str,
    ours: Sequence[float],
    reference: Sequence[float],
    against: str,
    kind: Kind,
    bar: float | None = None,
    note: str = "",
) -> Figure:
    """A ratio of seconds that were measured in rounds, in each of both.

    Args:
        key: As in `Figure`.
        what: As in `Figure`.
        ours: Seconds, round by round.
        reference: Seconds in the same rounds.
        against: As in `Figure`.
        kind: ``speedup`` or ``share``.
        bar: As in `Figure`.
        note: As in `Figure`.

    Returns:
        The figure, whose ``ours`` and ``reference`` are medians, ``ours`` set so that their ratio
        is the median of the rounds' ratios.
    """
    ratios = np.divide(reference, ours) if kind == "speedup" else np.divide(ours, reference)
    low, middle, high = (float(q) for q in np.percentile(ratios, [25, 50, 75]))
    theirs = float(np.median(reference))
    seconds = theirs / middle if kind == "speedup" else theirs * middle
    return Figure(key, what, "s", seconds, theirs, against, kind, bar, (low, high), note)


def markdown(found: Sequence[Figure]) -> str:
    """The figures as a table."""
    lines = ["| what | ours | against | ratio (quartiles) | bar | |", "|---|---|---|---|---|---|"]
    for f in found:
        spread = "" if f.spread is None else f" ({f.spread[0]:.2f}-{f.spread[1]:.2f})"
        reference = "" if f.reference is None else f"{f.against}: {f.reference:.3g} {f.unit}"
        ratio = "" if f.kind == "limit" else f"{f.value:.2f}{spread}"
        bar = "" if f.bar is None else f"{'>=' if f.kind == 'speedup' else '<='} {f.bar:g}"
        verdict = {True: "holds", False: "**missed**", None: ""}[f.holds]
        note = f" ({f.note})" if f.note else ""
        cells = (f.what + note, f"{f.ours:.3g} {f.unit}", reference, ratio, bar, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
