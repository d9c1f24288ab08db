"""A small published config as fields to be mapped."""

from __future__ import annotations

from typing import Any

from deeplesion.legacy.config_text import read_config_text
from deeplesion.legacy.ledger import Ledger, Outcome, Status
from tests.deeplesion.legacy.published import config_text

ABSENT = object()


def fields(name: str = "align", slices: int = 3, **changes: Any) -> dict[str, Any]:
    """The fields of a config, some of them changed: ``model__backbone__n_fold=4``."""
    values = read_config_text(config_text(name, slices)).values
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = values
        for key in parents:
            inner = inner[key]
        if value is ABSENT:
            del inner[last]
        else:
            inner[last] = value
    return values


def ledger(name: str = "align", slices: int = 3, **changes: Any) -> Ledger:
    """A ledger of :func:`fields`."""
    return Ledger(fields(name, slices, **changes))


def essential(found: Ledger) -> dict[str, str]:
    """Why essential fields were not mapped."""
    return {o.field: o.note for o in found.in_order() if o.essential}


def lost(outcomes: list[Outcome]) -> dict[str, str]:
    """Why fields were not mapped."""
    return {o.field: o.note for o in outcomes if o.status is Status.LOST}
