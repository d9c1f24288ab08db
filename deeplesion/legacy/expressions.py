"""Expressions of a config worked out without running them."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Evaluator", "Unread", "UnreadableError", "expanded_size"]

# More than any config needs; what is larger is an accident or an attack.
MAX_LENGTH = 10_000
MAX_NUMBER = 10**18
MAX_EXPONENT = 64
# How ast spells that a part of an f-string has no `!r`.
PLAIN = -1
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
# Calls whose result is data.
BUILDERS: dict[str, Callable[..., Any]] = {"dict": dict, "list": list, "tuple": tuple}


class UnreadableError(ValueError):
    """Something in a config is more than data."""


@dataclass(frozen=True)
class Unread:
    """An expression whose value is not known, as running it would be needed.

    Attributes:
        text: The expression.
    """

    text: str

    def __repr__(self) -> str:
        return f"`{self.text}`"


@dataclass
class Evaluator:
    """Values of expressions that are plain data.

    Attributes:
        names: Values of the names that expressions may refer to.
        used: Names that they did refer to.
        imported: Those of ``names`` that are not the config's own.
    """

    names: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)

    def assign(self, name: str, value: Any) -> None:
        """Give a name a value."""
        self.names[name] = value
        self.imported.discard(name)

    def value(self, node: ast.expr) -> Any:
        """The value of an expression; an :class:`Unread` where it is more than data."""
        try:
            return self._value(node)
        except (UnreadableError, TypeError, ValueError, KeyError, IndexError, ArithmeticError):
            return Unread(ast.unparse(node))

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self._named(node.id)
            case ast.List() | ast.Tuple():
                items = [item for element in node.elts for item in self._items(element)]
                return _checked(items if isinstance(node, ast.List) else tuple(items))
            case ast.Dict():
                return self._dict(node)
            case ast.Call():
                return self._call(node)
            case ast.BinOp(op=op) if type(op) in BINARY:
                return self._binary(type(op), self._known(node.left), self._known(node.right))
            case ast.UnaryOp(op=op) if type(op) in UNARY:
                return UNARY[type(op)](self._known(node.operand))
            case ast.Subscript():
                return self._known(node.value)[self._known(node.slice)]
            case ast.JoinedStr():
                return _checked("".join(self._part(part) for part in node.values))
        raise UnreadableError(ast.unparse(node))

    def _known(self, node: ast.expr) -> Any:
        """A value that another one is made of."""
        value = self._value(node)
        if isinstance(value, Unread):
            raise UnreadableError(value.text)
        return value

    def _named(self, name: str) -> Any:
        self.used.add(name)
        if name not in self.names:
            raise UnreadableError(name)
        return self.names[name]

    def _items(self, node: ast.expr) -> list[Any]:
        return (
            list(self._known(node.value)) if isinstance(node, ast.Starred) else [self.value(node)]
        )

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        items: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            items |= self._known(value) if key is None else {self._known(key): self.value(value)}
        return items

    def _call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in BUILDERS or (node.keywords and name != "dict"):
            raise UnreadableError(ast.unparse(node))
        made = BUILDERS[name](*(self._known(argument) for argument in node.args))
        for keyword in node.keywords:
            if keyword.arg is None:
                made |= self._known(keyword.value)
            else:
                made[keyword.arg] = self.value(keyword.value)
        return made

    def _part(self, node: ast.expr) -> str:
        if isinstance(node, ast.FormattedValue):
            part = self._known(node.value)
            simple = isinstance(part, str | int | float) and node.conversion == PLAIN
            if not simple or node.format_spec is not None:
                raise UnreadableError(ast.unparse(node))
            return str(part)
        return str(self._known(node))

    @staticmethod
    def _binary(op: type[ast.operator], left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if numbers and op is ast.Pow and abs(right) > MAX_EXPONENT:
            raise UnreadableError("a number too large")
        if not numbers and op is ast.Mult:
            _check_repeat(left, right)
        elif not numbers and (op is not ast.Add or not isinstance(left, str | list | tuple)):
            raise UnreadableError("arithmetic with something else than numbers")
        return _checked(BINARY[op](left, right))


def expanded_size(value: Any) -> tuple[int, int]:
    """Size and depth of nested data; takes time for the values that there are, not for the places.

    Args:
        value: The data.

    Returns:
        Number of values, those that stand in several places counted in each, and how deep they are
        nested.

    Raises:
        RecursionError: They are nested deeper than can be counted.
    """
    return _size(value, {})


def _size(value: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    if not isinstance(value, dict | list | tuple):
        return 1, 0
    if id(value) not in known:
        items = value.values() if isinstance(value, dict) else value
        inside = [_size(item, known) for item in items]
        depth = 1 + max((height for _, height in inside), default=0)
        known[id(value)] = 1 + sum(size for size, _ in inside), depth
    return known[id(value)]


def _check_repeat(left: Any, right: Any) -> None:
    """Refuse to repeat anything that is no short list or text."""
    sequence, times = (right, left) if isinstance(left, int) else (left, right)
    if not isinstance(sequence, str | list | tuple) or not isinstance(times, int):
        raise UnreadableError("only a list or a text can be repeated")
    if len(sequence) * times > MAX_LENGTH:
        raise UnreadableError("too long")


def _checked(value: Any) -> Any:
    """A value that is not too large."""
    if isinstance(value, str | list | tuple) and len(value) > MAX_LENGTH:
        raise UnreadableError("too long")
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise UnreadableError("a number too large")
    return value
