"""What became of each field of an old config, and the settings of the new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from deeplesion.legacy.config_text import flatten
from deeplesion.legacy.expressions import Unread

__all__ = ["Ledger", "Outcome", "Status", "format_table", "is_read"]

SHOWN_CHARACTERS = 40
GAP = "  "


class Status(Enum):
    """What became of a field."""

    MAPPED = "mapped"
    DROPPED = "dropped"
    LOST = "not mapped"


@dataclass(frozen=True)
class Outcome:
    """What became of one field.

    Attributes:
        field: Its path, e.g. ``model.rpn_head.anchor_scales``.
        value: Its value.
        status: What became of it.
        note: The setting that it became, or why it did not.
        essential: Whether the network or its results would be others without it.
    """

    field: str
    value: Any
    status: Status
    note: str
    essential: bool = False


class Ledger:
    """Takes down what becomes of the fields of an old config.

    Args:
        values: The fields, nested.

    Attributes:
        fields: Value by path.
        settings: Settings of the new config by path; they may agree with its base.
        outcomes: What became of each field that was looked at, by path.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.fields = flatten(values)
        self.settings: dict[str, Any] = {}
        self.outcomes: dict[str, Outcome] = {}

    def get(self, path: str, default: Any = None) -> Any:
        """The value at a path, nested or not; ``default`` where there is none."""
        value: Any = self.values
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return default
            value = value[key]
        return value

    def map(self, field: str, setting: str, value: Any = ..., note: str = "") -> None:
        """Turn a field into a setting; nothing happens where there is no such field.

        Args:
            field: Path of the field.
            setting: Path of the setting.
            value: What it becomes; the field's own value if not given.
            note: What else is to be said.
        """
        if field not in self.fields:
            return
        value = self.fields[field] if value is ... else value
        if not is_read(value):
            self.lose(field, "its value is not in the text")
            return
        self.settings[setting] = value
        self._take_down(field, Status.MAPPED, setting + (f" ({note})" if note else ""))

    def drop(self, fields: str | Iterable[str], why: str) -> None:
        """Leave fields out that change nothing."""
        for field in [fields] if isinstance(fields, str) else fields:
            self._take_down(field, Status.DROPPED, why)

    def lose(self, field: str, why: str, essential: bool = False) -> None:
        """Take down that a field could not be mapped."""
        self._take_down(field, Status.LOST, why, essential)

    def miss(self, field: str) -> None:
        """Take down that a field is not there that must be."""
        if field not in self.fields:
            self.outcomes[field] = Outcome(field, None, Status.LOST, "it is missing", True)

    def note(self, field: str, status: Status, note: str) -> None:
        """Take down what became of a field otherwise."""
        self._take_down(field, status, note)

    def take_back(self, setting: str, value: Any, why: str, essential: bool) -> None:
        """Remove a setting; it is reported by its own path, for several fields may be in it.

        Args:
            setting: Its path.
            value: The part of its value that is to blame.
            why: What is wrong with that.
            essential: Whether the network or its results would be others without it.
        """
        del self.settings[setting]
        self.outcomes[setting] = Outcome(setting, value, Status.LOST, why, essential)

    def below(self, path: str) -> list[str]:
        """Paths of the fields at and below one."""
        return [f for f in self.fields if f == path or f.startswith((f"{path}.", f"{path}["))]

    def open_fields(self) -> list[str]:
        """Fields of which nothing was taken down yet."""
        return [field for field in self.fields if field not in self.outcomes]

    def in_order(self) -> list[Outcome]:
        """What became of each field, in the order of the old config; what was missing is last."""
        names = dict.fromkeys([*self.fields, *self.outcomes])
        return [self.outcomes[field] for field in names if field in self.outcomes]

    def _take_down(self, field: str, status: Status, note: str, essential: bool = False) -> None:
        if field in self.fields:
            value = self.fields[field]
            self.outcomes[field] = Outcome(field, value, status, note, essential)


def is_read(value: Any) -> bool:
    """Whether a value is known, with all that is in it."""
    if isinstance(value, Mapping):
        return all(map(is_read, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_read, value))
    return not isinstance(value, Unread)


def format_table(outcomes: Iterable[Outcome], essential_mark: str = "!") -> Iterator[str]:
    """Lines of a table: field, value, what became of it.

    Args:
        outcomes: Its rows.
        essential_mark: Stands before fields that are essential.
    """
    rows = [("field", "value", "what became of it")]
    for outcome in outcomes:
        mark = f"{essential_mark} " if outcome.essential else ""
        what = f"{outcome.status.value}: {outcome.note}"
        rows.append((mark + outcome.field, _shown(outcome.value), what))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for row in rows:
        yield GAP.join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]])


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
