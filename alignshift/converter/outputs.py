"""Reaching every tensor of what a network returns."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor

__all__ = ["map_tensors"]

USUAL = (dict, OrderedDict)
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def map_tensors(out: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a nested output.

    Args:
        out: Tensors in lists, tuples, named tuples, mappings and dataclasses. It is not changed.
        function: What to apply.

    Returns:
        The same of its results, with all else as it is.

    Raises:
        TypeError: If tensors are in an object of another type.
    """
    if isinstance(out, Tensor):
        return function(out)
    if isinstance(out, PLAIN):
        return out
    if isinstance(out, Mapping):
        return _with_items(out, {key: map_tensors(value, function) for key, value in out.items()})
    if isinstance(out, list | tuple):
        items = [map_tensors(item, function) for item in out]
        return type(out)(*items) if hasattr(out, "_fields") else type(out)(items)
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        names = [field.name for field in dataclasses.fields(out) if field.init]
        values = {name: map_tensors(getattr(out, name), function) for name in names}
        return dataclasses.replace(out, **values)
    if _holds_tensors(out, set()):
        raise TypeError(
            "the 2D network must return tensors in lists, tuples, mappings or dataclasses, whose "
            f"slices can be unfolded, got a {type(out).__name__}, which holds tensors too: convert "
            "the part of the network before that"
        )
    return out


def _with_items(out: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    """A mapping like ``out`` with other values."""
    if not isinstance(out, MutableMapping):
        return type(out)(items)  # type: ignore[call-arg]
    # Some are made in ways of their own (defaultdict by its factory), but all can be copied; the
    # method of the usual ones is what a compiler can follow.
    changed = out.copy() if isinstance(out, dict) and type(out) in USUAL else copy.copy(out)
    for key, value in items.items():
        changed[key] = value
    return changed


def _holds_tensors(value: Any, seen: set[int]) -> bool:
    """Whether there is a tensor in the attributes or elements of an object, at any depth."""
    if isinstance(value, Tensor):
        return True
    if isinstance(value, (*PLAIN, type)) or id(value) in seen:
        return False
    seen.add(id(value))
    return any(_holds_tensors(part, seen) for part in _parts(value))


def _parts(value: Any) -> Iterable[Any]:
    slots = (name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ()))
    yield from (getattr(value, name) for name in slots if hasattr(value, name))
    yield from getattr(value, "__dict__", {}).values()
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from value
