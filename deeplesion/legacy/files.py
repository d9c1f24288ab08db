"""Files of published checkpoints: reading them safely, writing ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeplesion.engine.checkpoint import CheckpointError, UnsafeCheckpointError, read_content
from deeplesion.io import atomic_write

__all__ = ["PublishedFile", "file_hash", "read_file", "split_file", "write_file"]

WRAPPER = "module."
CHUNK_BYTES = 1 << 20
PLAIN = (str, int, float, bool, type(None), Tensor)
UNSAFE_HINT = (
    "; --unsafe reads it all the same, and runs whatever code the file holds: only for files of "
    "people whom you trust"
)


@dataclass
class PublishedFile:
    """What a published checkpoint holds.

    Attributes:
        state: Tensors by published name, without the wrapper's prefix.
        prefix: What all names began with; empty for a network that was not wrapped.
        meta: Its meta, as far as it can be told in plain data; None where it has none.
        others: Names of its other entries, e.g. the optimizer, and of those of its meta that are
            no plain data.
        bare: Whether it holds the tensors and nothing else.
    """

    state: dict[str, Tensor]
    prefix: str
    meta: dict[str, Any] | None
    others: list[str]
    bare: bool


def read_file(path: str | Path, unsafe: bool = False) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: A local file.
        unsafe: Unpickle whatever is in it, which may run code of whoever wrote it.

    Returns:
        What it holds: ``state_dict``, ``meta`` and others, or the tensors alone.

    Raises:
        CheckpointError: The file is not there, torn, or holds more than plain data.
    """
    if not unsafe:
        try:
            return read_content(path)
        except UnsafeCheckpointError as error:
            raise CheckpointError(f"{error}{UNSAFE_HINT}") from error
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the code in the file raises
        what = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"checkpoint {path} cannot be read: {what}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"checkpoint {path} holds a {type(content).__name__}, not a dict")
    return dict(content)


def split_file(content: Mapping[str, Any]) -> PublishedFile:
    """Tell apart what a checkpoint holds.

    Args:
        content: As :func:`read_file` gives it.

    Raises:
        CheckpointError: There are no tensors, or something else among them.
    """
    bare = "state_dict" not in content
    weights = content if bare else content["state_dict"]
    if not isinstance(weights, Mapping):
        raise CheckpointError(f"its state dict must be a dict, got a {type(weights).__name__}")
    odd = [
        f"{name!r} is a {type(value).__name__}"
        for name, value in weights.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if odd or not weights:
        what = odd[0] if odd else "it is empty"
        raise CheckpointError(f"its state dict must hold tensors by name, but {what}")
    prefix = WRAPPER if all(name.startswith(WRAPPER) for name in weights) else ""
    state = {name.removeprefix(prefix): value for name, value in weights.items()}
    if bare:
        return PublishedFile(state, prefix, None, [], bare)
    others = [str(name) for name in content if name not in ("state_dict", "meta")]
    meta = None
    if isinstance(given := content.get("meta"), Mapping):
        meta, lost = _plain_items(given)
        others += [f"meta.{name}" for name in lost]
    return PublishedFile(state, prefix, meta, others, bare)


def write_file(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a checkpoint by way of a temporary file; the same content gives the same bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        # Given a path, torch would write its temporary name into the file.
        torch.save(dict(content), file)


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _plain_items(meta: Mapping[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """The entries of a meta as plain data, and the names of those that cannot be told so."""
    plain, lost = {}, []
    for name, value in meta.items():
        try:
            plain[_plain(name)] = _plain(value)
        except (RecursionError, TypeError):
            lost.append(str(name))
    return plain, lost


def _plain(value: Any) -> Any:
    """A value as data that can be read back with ``weights_only=True``.

    Raises:
        TypeError: It is more than data.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(_plain, value))
    if type(value) not in PLAIN and not isinstance(value, Tensor):
        raise TypeError(f"a {type(value).__name__} is no plain data")
    return value
