"""HTML pages that are complete in one file: they load nothing and work offline.

A page's sources lie in a folder ``page`` beside the module that writes it. Its data are JSON in
the page, escaped so that no text of a file (a name, a note) can end the element that holds them.
Its policy of content allows its own script, by its hash, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

#: What ends an element or a line of a script wherever it stands.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def page_source(package: str, name: str) -> str:
    """Text of a file in the folder ``page`` of a package."""
    return (resources.files(package) / "page" / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """What a content security policy calls a script that stands in the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def escaped_json(value: Any) -> str:
    """JSON that can stand in an HTML element: ``<``, ``>``, ``&`` and line ends are escaped.

    Args:
        value: Dicts with str keys, lists (or tuples, or arrays), str, numbers, bool, None; NaN and
            infinity become null.

    Raises:
        TypeError: If something in it is not JSON's.
    """
    text = json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_ESCAPES)


def _plain(value: Any) -> Any:
    """The same of dicts, lists and JSON's own values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"cannot put a {type(value).__name__} into the report: {value!r}")
