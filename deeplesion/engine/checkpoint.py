"""Reading checkpoints without running what is in them, and telling whether they fit a model."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn
from torch.serialization import safe_globals

from alignshift.operators import SliceConv

# Counts batches, means nothing for the result, and old files lack it.
IGNORED_SUFFIX = "num_batches_tracked"
SHOWN_NAMES = 3
# Settings of operators that change what is kept for backward and no result.
MEMORY_SETTINGS = {"inplace"}
# How PyTorch's unpickler names what a file may not use.
NOT_ALLOWED = re.compile(
    r"GLOBAL (\S+) (?:was not an allowed|whose module)|(attribute '.*' of .*) is not allowed"
)
NUMPY_SCALARS = (np.float32, np.float64, np.int32, np.int64, np.uint32, np.bool_)


class CheckpointError(ValueError):
    """A file is no checkpoint, is torn, or holds more than data; the message names it."""


class UnsafeCheckpointError(CheckpointError):
    """A file would have to run something to be read; the message names it."""


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
    content = read_content(path, map_location)
    checkpoint = content if "state_dict" in content else {"state_dict": content}
    if not isinstance(checkpoint["state_dict"], dict):
        raise CheckpointError(f"checkpoint {path} holds no state dict under 'state_dict'")
    if not isinstance(checkpoint.get("meta"), dict):
        checkpoint.pop("meta", None)
    return checkpoint


def read_content(
    path: str | Path, map_location: Any = "cpu", *, mmap: bool = False
) -> dict[str, Any]:
    """Read what a checkpoint holds, as it stands in the file; see :func:`read_checkpoint`.

    Args:
        path: A local file.
        map_location: As in :func:`torch.load`.
        mmap: Leave tensors on the disk until they are used.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    try:
        with safe_globals(_training_state_types()):
            content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:  # the unpickler raises whatever broken data lead to
        if found := NOT_ALLOWED.search(str(error)):
            raise UnsafeCheckpointError(
                f"checkpoint {path} is not a file of plain weights and was not read, for safety: "
                f"it uses {next(filter(None, found.groups()))}"
            ) from error
        # Of other errors the text means nothing to a user, or is advice to read it unsafely.
        why = f": {error}".splitlines()[0] if isinstance(error, RuntimeError | OSError) else ""
        raise CheckpointError(f"checkpoint {path} is torn or no checkpoint{why}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"checkpoint {path} holds a {type(content).__name__}, not a dict")
    return content


@dataclass(frozen=True)
class WeightFit:
    """How the weights of a file fit those of a model.

    Attributes:
        fitting: Number of tensors that fit by name and shape.
        missing: Names in the model that the file lacks.
        unexpected: Names in the file that the model lacks.
        misshapen: Names in both, with both shapes.
    """

    fitting: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the file has exactly the weights of the model."""
        return not (self.missing or self.unexpected or self.misshapen)

    def __str__(self) -> str:
        """The first few names of each kind of misfit."""
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.misshapen,
        }
        return "; ".join(
            f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds.items() if names
        )


def compare_weights(own: Mapping[str, Tensor], weights: Mapping[str, Any]) -> WeightFit:
    """Compare the weights of a file with those of a model by name and shape.

    Args:
        own: State dict of the model.
        weights: State dict of the file.

    Returns:
        What fits and what does not; counters of batches may be missing.
    """
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in weights.items()}
    common = [name for name in own if name in shapes]
    misshapen = [
        f"{name}: {shapes[name]} in the file, {tuple(own[name].shape)} in the model"
        for name in common
        if shapes[name] != tuple(own[name].shape)
    ]
    missing = (n for n in own if n not in shapes and not n.endswith(IGNORED_SUFFIX))
    unexpected = (name for name in shapes if name not in own)
    fitting = len(common) - len(misshapen)
    return WeightFit(fitting, tuple(missing), tuple(unexpected), tuple(misshapen))


def describe_operators(model: nn.Module) -> dict[str, dict[str, Any]]:
    """The 3D-context operators of a model, which the shapes of its weights do not tell.

    TSM, AlignShift and plain convolutions have the same weights and give different results.

    Args:
        model: Any model.

    Returns:
        Settings by the class name of the operator, as plain data; empty for a 2D network. Settings
        that only save memory are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for module in model.modules():
        if isinstance(module, SliceConv) and type(module) is not SliceConv:
            names = set(module.setting_names()) - MEMORY_SETTINGS
            settings = {name: getattr(module, name) for name in sorted(names)}
            found.setdefault(module.operator_name(), settings)
    return found


def operators_differ(recorded: Mapping[str, Mapping], own: Mapping[str, Mapping]) -> str:
    """Say in what the operators of a checkpoint differ from those of a model.

    Args:
        recorded: :func:`describe_operators` of the model that was saved.
        own: The same of the model to load into.

    Returns:
        One phrase; empty where they agree. Settings that only one side knows are not compared, so
        that operators may get new ones.
    """
    if set(recorded) != set(own):
        return f"it was trained with {_names(recorded)}, the config has {_names(own)}"
    for operator, settings in own.items():
        for name in settings.keys() & recorded[operator].keys():
            if settings[name] != recorded[operator][name]:
                return (
                    f"it was trained with {name}={recorded[operator][name]} of {operator}, "
                    f"the config has {name}={settings[name]}"
                )
    return ""


def _names(operators: Iterable[str]) -> str:
    return ", ".join(sorted(operators)) or "no 3D-context operator"


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
