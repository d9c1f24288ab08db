"""Values of expressions, and what is not worked out."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from deeplesion.legacy.expressions import Evaluator, Unread, expanded_size


def value(text: str, **names: Any) -> Any:
    return Evaluator(dict(names)).value(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("None", None),
        ("-1", -1),
        ("not True", False),
        ("1 / 100", 0.01),
        ("1.0 / 9.0", 1.0 / 9.0),
        ("0.02 * 2 / 8 - 1", -0.995),
        ("2 ** 10 % 7 // 2", 1),
        ("[0.] * 3", [0.0, 0.0, 0.0]),
        ("'a' + 'b.pkl'", "ab.pkl"),
        ("[1, *x[1:]]", Unread("[1, *x[1:]]")),
        ("[1, *x]", [1, 5, 6]),
        ("(1, x[-1])", (1, 6)),
        ("d['k']", 2),
        ("dict(d, a=1, **d)", {"k": 2, "a": 1}),
        ("{**d, 'a': [x]}", {"k": 2, "a": [[5, 6]]}),
        ("list((1, 2)) + [3]", [1, 2, 3]),
        ("tuple()", ()),
        ("f'./w/{d}'", Unread("f'./w/{d}'")),
        ("f'./w/{x[0]}_r1'", "./w/5_r1"),
    ],
)
def test_data_is_worked_out(text: str, expected: Any) -> None:
    assert value(text, x=[5, 6], d={"k": 2}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "x.__class__",
        "dict.fromkeys('a')",
        "list(a=1)",
        "[i for i in (1, 2)]",
        "lambda: 1",
        "nowhere",
        "1 if True else 2",
        "10 ** 1000",
        "10 ** 20 * 10",
        "[0] * 10 ** 9",
        "'a' * 10 ** 9",
        "(0,) * -1.5",
        "1 / 0",
        "'%s' % 1",
        "d['no']",
        "f'{1:>100000}'",
    ],
)
def test_what_would_have_to_run_is_not_read(text: str) -> None:
    found = value(text, x=[5, 6], d={"k": 2})
    assert isinstance(found, Unread)
    assert ast.unparse(ast.parse(found.text)) == ast.unparse(ast.parse(text))


def test_one_unread_value_leaves_the_others() -> None:
    assert value("dict(a=f(), b=[1, g()])") == {"a": Unread("f()"), "b": [1, Unread("g()")]}
    assert repr(Unread("f()")) == "`f()`"


def test_names_that_are_used_are_known() -> None:
    evaluator = Evaluator()
    evaluator.assign("a", 1)
    evaluator.value(ast.parse("a + b", mode="eval").body)
    assert evaluator.used == {"a", "b"}


def test_size_counts_each_place() -> None:
    shared = [1, 2]
    assert expanded_size({"a": shared, "b": (shared, 3)}) == (1 + 3 + (1 + 3 + 1), 3)
    for _ in range(200):
        shared = [shared, shared]
    size, depth = expanded_size(shared)
    assert size > 2**200
    assert depth == 201
