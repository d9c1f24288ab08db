"""A config file that holds the differences from its bases."""

from __future__ import annotations

import keyword
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "MISSING",
    "Code",
    "base_path",
    "by_reference",
    "difference",
    "nest",
    "render_leaf",
    "value_at",
]

LINE_LENGTH = 100
INDENT = "    "
CONFIGS_VARIABLE = "ALIGNSHIFT_CONFIGS"
# What mmengine's substitution of environment variables takes as it is.
PLAIN_PATH = re.compile(r"[\w./-]+")
MISSING = object()


class Code(str):
    """An expression that is written as it stands."""

    __slots__ = ()


def value_at(config: Mapping[str, Any], path: str, default: Any = MISSING) -> Any:
    """The value at a path of nested dicts; ``default`` where there is none."""
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def difference(new: Any, old: Any) -> Any:
    """What must be merged over a value to get another, as mmengine merges configs.

    Args:
        new: The value to get; a dict is one as a whole.
        old: The value of the base.

    Returns:
        ``MISSING`` where they agree; tuples and lists are taken for the same. Of dicts, the items
        that differ, or all with ``_delete_`` where the base has items that the new one has not.
    """
    if _plain(new) == _plain(old):
        return MISSING
    if not isinstance(new, Mapping) or not isinstance(old, Mapping):
        return new
    if old.keys() - new.keys():
        return {"_delete_": True, **new}
    parts = {key: difference(value, old.get(key, MISSING)) for key, value in new.items()}
    return {key: value for key, value in parts.items() if value is not MISSING}


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of values by path; a path comes before those below it."""
    nested: dict[str, Any] = {}
    for path, value in settings.items():
        *parents, last = path.split(".")
        inner = nested
        for key in parents:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested


def by_reference(items: Sequence[Any], known: Sequence[Any], name: str) -> list[Any]:
    """A list that refers to another one where it has the same items.

    Args:
        items: The list.
        known: The other one.
        name: How the config names ``known``.

    Returns:
        The items; runs that ``known`` has too as slices of it.
    """
    written: list[Any] = []
    position = 0
    while position < len(items):
        start, length = _longest_run(items[position:], known)
        if length == 0:
            written.append(items[position])
        elif length == 1:
            written.append(Code(f"{name}[{start}]"))
        else:
            end = "" if start + length == len(known) else start + length
            written.append(Code(f"*{name}[{start or ''}:{end}]"))
        position += max(length, 1)
    return written


def _longest_run(items: Sequence[Any], known: Sequence[Any]) -> tuple[int, int]:
    """Where in ``known`` the longest beginning of ``items`` starts, and its length."""
    best = (0, 0)
    for start in range(len(known)):
        pairs = zip(items, known[start:], strict=False)
        length = 0
        for item, other in pairs:
            if difference(item, other) is not MISSING:
                break
            length += 1
        best = max(best, (start, length), key=lambda found: found[1])
    return best


def base_path(configs: str | os.PathLike[str], name: str) -> str:
    """How a config outside of the folder of configs names one of its files.

    The folder is named absolutely, so that the config may be moved. Where the folder is moved, the
    environment variable ``ALIGNSHIFT_CONFIGS`` tells where it is, if its name is plain (mmengine
    substitutes no others).

    Args:
        configs: The folder ``configs``.
        name: A file in it.
    """
    folder = Path(configs).resolve().as_posix()
    if PLAIN_PATH.fullmatch(folder):
        return Code(f'"{{{{${CONFIGS_VARIABLE}:{folder}}}}}/{name}"')
    return f"{folder}/{name}"


def render_leaf(comment: str, bases: Sequence[str], assignments: Mapping[str, Any]) -> str:
    """Text of a config.

    Args:
        comment: Stands above; without ``#``.
        bases: Values of ``_base_``.
        assignments: Values by name; :class:`Code` is written as it stands.

    Returns:
        Python, ending in a newline.
    """
    # mmengine substitutes {{...}} in comments, too.
    lines = [f"# {line}".rstrip().replace("{{", "{ {") for line in comment.splitlines()]
    lines.append(f"_base_ = {_render(list(bases), '')}")
    if assignments:
        lines.append("")
    for name, value in assignments.items():
        begin = f"{name} = "
        lines.append(begin + _render(value, "", len(begin)))
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _render(value: Any, indent: str, before: int = 0) -> str:
    """A value in one line where it fits, else one item a line.

    Args:
        value: Plain data.
        indent: Of the line that it begins in.
        before: Characters before it in that line, its indentation aside.
    """
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if not isinstance(value, Mapping | list | tuple):
        return repr(value)
    begin, items, end = _parts(value)
    inner = indent + INDENT
    single = begin + ", ".join(name + _render(item, "", 0) for name, item in items)
    single += ("," if isinstance(value, tuple) and len(value) == 1 else "") + end
    if "\n" not in single and len(indent) + before + len(single) < LINE_LENGTH:
        return single
    lines = [f"{inner}{name}{_render(item, inner, len(name))}," for name, item in items]
    return "\n".join([begin, *lines, indent + end])


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """Opening bracket, items with what stands before each, closing bracket."""
    if not isinstance(value, Mapping):
        brackets = "()" if isinstance(value, tuple) else "[]"
        return brackets[0], [("", item) for item in value], brackets[1]
    if all(isinstance(key, str) and _is_argument(key) for key in value):
        return "dict(", [(f"{key}=", item) for key, item in value.items()], ")"
    return "{", [(f"{_render(key, '')}: ", item) for key, item in value.items()], "}"


def _is_argument(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def _quoted(text: str) -> str:
    """A literal in double quotes where that needs no more escapes.

    mmengine substitutes ``{{...}}`` in the text of a config before it is run as Python, quotes and
    all: a string that comes from a stranger's checkpoint must not have that.
    """
    literal = repr(text).replace("{{", "{\\x7b")
    return literal if '"' in literal or "\\" in literal else f'"{literal[1:-1]}"'
