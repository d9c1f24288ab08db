"""Book-keeping of fields."""

from __future__ import annotations

from deeplesion.legacy.expressions import Unread
from deeplesion.legacy.ledger import Ledger, Outcome, Status, format_table, is_read

VALUES = {"a": {"b": 1, "c": [{"d": 2}]}, "e": Unread("f()"), "g": None}


def test_every_field_is_accounted_for() -> None:
    ledger = Ledger(VALUES)
    assert list(ledger.fields) == ["a.b", "a.c[0].d", "e", "g"]
    ledger.map("a.b", "ours.b", 10, "ten times")
    ledger.map("e", "ours.e")
    ledger.map("nowhere", "ours.nowhere")
    ledger.drop(["g", "nowhere"], "no need")
    ledger.miss("a.b")
    ledger.miss("h")
    assert ledger.settings == {"ours.b": 10}
    assert ledger.open_fields() == ["a.c[0].d"]
    ledger.lose("a.c[0].d", "nothing has it", essential=True)
    assert ledger.in_order() == [
        Outcome("a.b", 1, Status.MAPPED, "ours.b (ten times)"),
        Outcome("a.c[0].d", 2, Status.LOST, "nothing has it", essential=True),
        Outcome("e", Unread("f()"), Status.LOST, "its value is not in the text"),
        Outcome("g", None, Status.DROPPED, "no need"),
        Outcome("h", None, Status.LOST, "it is missing", essential=True),
    ]


def test_looks_up_fields() -> None:
    ledger = Ledger(VALUES)
    assert ledger.get("a.b") == 1
    assert ledger.get("a.b.c", "none") == "none"
    assert ledger.below("a") == ["a.b", "a.c[0].d"]
    assert ledger.below("a.c") == ["a.c[0].d"]


def test_values_with_something_unknown_inside_are_not_read() -> None:
    assert is_read({"a": [1, (2,)]})
    assert not is_read({"a": [1, (Unread("f()"),)]})


def test_table() -> None:
    outcomes = [
        Outcome("a", 1, Status.MAPPED, "ours.a"),
        Outcome("long.name", "x" * 60, Status.LOST, "nothing has it", essential=True),
    ]
    assert [*format_table(outcomes)] == [
        "field        value                                     what became of it",
        "a            1                                         mapped: ours.a",
        f"! long.name  '{'x' * 36}...  not mapped: nothing has it",
    ]
