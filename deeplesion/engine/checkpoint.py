"""Reading checkpoints without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch.serialization import safe_globals

NUMPY_SCALARS = (np.float32, np.float64, np.int32, np.int64, np.uint32, np.bool_)


class CheckpointError(ValueError):
    """A file is no checkpoint, is torn, or holds more than data; the message names it."""


def _history_method(owner: type, name: str) -> Callable:
    """``getattr`` while unpickling: for the methods of a HistoryBuffer and nothing else."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise pickle.UnpicklingError(f"attribute {name!r} of {owner!r} is not allowed")
    return getattr(owner, name)


def _training_state_types() -> list:
    """What mmengine's training checkpoints hold beside tensors: log histories and numpy scalars."""
    multiarray = getattr(np, "_core", None) or np.core
    return [
        HistoryBuffer,
        (_history_method, "builtins.getattr"),
        multiarray.multiarray._reconstruct,
        multiarray.multiarray.scalar,
        np.ndarray,
        np.dtype,
        *(type(np.dtype(scalar)) for scalar in NUMPY_SCALARS),
    ]


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of mmengine or a plain state dict with ``weights_only=True``.

    Args:
        path: A local file.
        map_location: As in :func:`torch.load`.

    Returns:
        A dict with ``state_dict``, and ``meta`` and the training state where the file holds them.

    Raises:
        CheckpointError: The file is not there, torn, or holds more than weights and training state.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        with safe_globals(_training_state_types()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"checkpoint {path} is not a file of plain weights and was not read, for safety: "
            f"{str(error).splitlines()[0]}"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"checkpoint {path} is torn or no checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(content).__name__}, not a dict")
    return content if "state_dict" in content else {"state_dict": content}
