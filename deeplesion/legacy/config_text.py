"""Values of a Python config, read without running it.

A checkpoint's meta holds the config of its training as text, and that text may come from anyone. It
is parsed, and only what is plain data is worked out: literals, ``dict(...)`` calls, names that were
assigned before, arithmetic.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeplesion.legacy.expressions import Evaluator, Unread, UnreadableError, expanded_size

__all__ = ["ConfigText", "ConfigTextError", "Unread", "flatten", "read_config", "read_config_text"]

# mmcv puts the name of the file before its text.
FILE_NAME_LINE = re.compile(r"^[^\s=#'\"(][^\n=#'\"(]*\.py[ \t]*$", re.MULTILINE)
# Of lists that hold each other, few lines can make more than memory holds.
MAX_VALUES = 100_000
MAX_DEPTH = 50


class ConfigTextError(ValueError):
    """A text is no config that can be read; the message names file and line."""


@dataclass
class ConfigText:
    """What a config says.

    Attributes:
        values: Its fields, plain data; where one could not be read, an :class:`Unread`.
        used: Names that other fields refer to: variables rather than settings.
        ignored: Lines without effect on values (imports), by number.
    """

    values: dict[str, Any]
    used: set[str] = field(default_factory=set)
    ignored: dict[int, str] = field(default_factory=dict)


def read_config(path: str | Path) -> ConfigText:
    """Read a config file of the published code.

    Args:
        path: A ``.py`` file, or a ``.json`` file with the same fields.

    Returns:
        Its values.

    Raises:
        FileNotFoundError: There is no such file.
        ConfigTextError: It cannot be read; the message names the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    try:
        text = Path(path).read_text(encoding="utf-8")
        if Path(path).suffix != ".json":
            return read_config_text(text, str(path))
        values = json.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigTextError(f"config {path} is not text: {error}") from error
    except json.JSONDecodeError as error:
        raise ConfigTextError(f"config {path}, line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ConfigTextError(f"config {path} is nested too deep") from error
    if not isinstance(values, dict):
        raise ConfigTextError(f"config {path} must hold an object, got a {type(values).__name__}")
    _check(values, str(path))
    return ConfigText(values)


def read_config_text(text: str, name: str = "the config") -> ConfigText:
    """Read a config as Python text; nothing in it is run.

    Args:
        text: The text, as a file or ``meta['config']`` of a checkpoint holds it.
        name: What to call it in messages.

    Returns:
        Its values. An expression that is more than data becomes an :class:`Unread`.

    Raises:
        ConfigTextError: It is not Python, or has statements that are not assignments.
    """
    try:
        tree = ast.parse(FILE_NAME_LINE.sub("", text))
    except SyntaxError as error:
        raise ConfigTextError(f"{name}, line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigTextError(f"{name} cannot be parsed: {error}") from error
    evaluator = Evaluator()
    config = ConfigText({})
    for statement in tree.body:
        try:
            if not _take(statement, evaluator):
                config.ignored[statement.lineno] = ast.unparse(statement)
        except UnreadableError as error:
            raise ConfigTextError(f"{name}, line {statement.lineno}: {error}") from error
        except RecursionError as error:
            raise ConfigTextError(f"{name}, line {statement.lineno}: nested too deep") from error
    config.values = {k: v for k, v in evaluator.names.items() if k not in evaluator.imported}
    config.used = evaluator.used
    _check(config.values, name)
    if "_base_" in config.values:
        raise ConfigTextError(
            f"{name} has a _base_: give the whole config, as a checkpoint's meta holds it"
        )
    return config


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Fields by their path: ``model.backbone.n_fold``, ``data.train.pre_pipeline[0].type``.

    Lists are opened where they hold dicts. Empty dicts are values.

    Args:
        values: Nested data.
        path: Path of ``values`` themselves.
    """
    return dict(_leaves(values, path))


def _check(values: dict[str, Any], name: str) -> None:
    """Refuse data that would take too long to go through, or that could run something."""
    try:
        size, depth = expanded_size(values)
    except RecursionError as error:
        raise ConfigTextError(f"{name} is nested too deep") from error
    if depth > MAX_DEPTH:
        raise ConfigTextError(f"{name} must be nested at most {MAX_DEPTH} deep, got {depth}")
    if size > MAX_VALUES:
        raise ConfigTextError(f"{name} must hold at most {MAX_VALUES} values, got more")
    for key, value in _items(values):
        # Today's registries import what a name with dots says: os.system, for one.
        if key == "type" and isinstance(value, str) and not value.isidentifier():
            raise ConfigTextError(
                f"{name}: a type must be the name of a registered class, got {value!r}"
            )
        # It makes them import a package of that name.
        if key == "_scope_":
            raise ConfigTextError(f"{name}: _scope_ is not allowed, got {value!r}")
        # Paths of fields are names with dots between them; a tuple may hold what is not known.
        if not isinstance(key, str | int) or "." in str(key):
            raise ConfigTextError(f"{name}: names must be text without dots, got {key!r}")


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every key in nested data with its value."""
    if isinstance(value, Mapping):
        yield from value.items()
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for item in value:
        yield from _items(item)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _take(statement: ast.stmt, evaluator: Evaluator) -> bool:
    """Take one statement in; False for one that sets nothing."""
    if isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Name) for target in statement.targets
    ):
        value = evaluator.value(statement.value)
        for target in statement.targets:
            evaluator.assign(target.id, value)  # type: ignore[attr-defined]
        return True
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        if statement.value is not None:
            evaluator.assign(statement.target.id, evaluator.value(statement.value))
        return True
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            name = (alias.asname or alias.name).partition(".")[0]
            evaluator.names[name] = Unread(name)
            evaluator.imported.add(name)
        return False
    if isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    ):
        return True
    shown = ast.unparse(statement).splitlines()[0]
    raise UnreadableError(f"only assignments are read, nothing is run, got `{shown}`")
