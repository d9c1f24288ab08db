"""Files of published checkpoints: reading them safely, writing ours."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deeplesion.engine.checkpoint import CheckpointError, read_checkpoint
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
        meta: Its meta, as far as it is plain data.
        others: Names of its other entries, e.g. the optimizer.
    """

    state: dict[str, Tensor]
    prefix: str
    meta: dict[str, Any]
    others: list[str]


def read_file(path: str | Path, unsafe: bool = False) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: A local file.
        unsafe: Unpickle whatever is in it, which may run code of whoever wrote it.

    Returns:
        A dict with ``state_dict``; ``meta`` and others where the file has them.

    Raises:
        CheckpointError: The file is not there, torn, or holds more than plain data.
    """
    if not unsafe:
        try:
            return read_checkpoint(path)
        except CheckpointError as error:
            more = isinstance(error.__cause__, pickle.UnpicklingError)
            raise CheckpointError(f"{error}{UNSAFE_HINT if more else ''}") from error
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the code in the file raises
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"checkpoint {path} holds a {type(content).__name__}, not a dict")
    return dict(content) if "state_dict" in content else {"state_dict": dict(content)}


def split_file(content: Mapping[str, Any]) -> PublishedFile:
    """Tell apart what a checkpoint holds.

    Args:
        content: As :func:`read_file` gives it.

    Raises:
        CheckpointError: There are no tensors, or something else among them.
    """
    weights = content["state_dict"]
    odd = [name for name, value in weights.items() if not isinstance(value, Tensor)]
    if odd or not weights:
        what = f"{odd[0]} is a {type(weights[odd[0]]).__name__}" if odd else "it is empty"
        raise CheckpointError(f"its state dict must hold tensors, but {what}")
    prefix = WRAPPER if all(name.startswith(WRAPPER) for name in weights) else ""
    meta = content.get("meta")
    return PublishedFile(
        {name.removeprefix(prefix): value for name, value in weights.items()},
        prefix,
        {k: v for k, v in meta.items() if _is_plain(v)} if isinstance(meta, Mapping) else {},
        [name for name in content if name not in ("state_dict", "meta")],
    )


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


def _is_plain(value: Any) -> bool:
    """Whether a value can be read back with ``weights_only=True``."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return type(value) in PLAIN or isinstance(value, Tensor)
