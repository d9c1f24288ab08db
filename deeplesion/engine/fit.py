"""Refusing, and loading, the weights of a checkpoint into the model of a config."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from deeplesion.engine.checkpoint import (
    CheckpointError,
    compare_weights,
    describe_operators,
    operators_differ,
    read_checkpoint,
)

#: Patterns and replacements in names of weights: DataParallel's prefix is taken off.
NAME_CHANGES = [(r"^module\.", "")]
NameChanges = Sequence[tuple[str, str]]


def load_fitting(filename: str | Path, model: nn.Module) -> dict[str, Any]:
    """Load a checkpoint into a model that it must fit entirely.

    Args:
        filename: A checkpoint of mmengine or a plain state dict.
        model: Its weights are replaced.

    Returns:
        What :func:`deeplesion.engine.checkpoint.read_checkpoint` gives.

    Raises:
        CheckpointError: The file cannot be read or does not fit, see :func:`check_fit`.
    """
    checkpoint = read_checkpoint(filename)
    check_fit(filename, checkpoint, model)
    # What is missing now are counters of batches, which no result depends on.
    model.load_state_dict(dict(revise_names(checkpoint["state_dict"])), strict=False)
    return checkpoint


def check_fit(
    filename: str | Path,
    checkpoint: Mapping[str, Any],
    model: nn.Module,
    revise_keys: NameChanges = NAME_CHANGES,
) -> None:
    """Refuse a checkpoint that has not exactly the weights of a model, or other operators.

    Args:
        filename: For the message.
        checkpoint: Of :func:`deeplesion.engine.checkpoint.read_checkpoint`.
        model: The bare model.
        revise_keys: Patterns and replacements in names of weights.

    Raises:
        CheckpointError: It does not fit; the message says in what.
    """
    weights = revise_names(checkpoint["state_dict"], revise_keys)
    own = model.state_dict()
    fit = compare_weights(own, weights)
    if not fit.fitting:
        raise nothing_fits(filename, weights, own)
    if not fit.complete:
        raise CheckpointError(f"{_failed(filename)}of the model's {len(own)} weights {fit}")
    recorded = checkpoint.get("meta", {}).get("operators")
    if recorded is not None and (
        difference := operators_differ(recorded, describe_operators(model))
    ):
        raise CheckpointError(f"{_failed(filename)}{difference}")


def nothing_fits(filename: str | Path, weights: Mapping, own: Mapping) -> CheckpointError:
    """The error for a checkpoint of another network altogether.

    Args:
        filename: For the message.
        weights: State dict of the file.
        own: State dict of the model.
    """
    return CheckpointError(
        f"{_failed(filename)}none of its {len(weights)} weights has the name and shape of one of "
        f"the model's {len(own)}"
    )


def revise_names(
    state_dict: Mapping[str, Any], revise_keys: NameChanges = NAME_CHANGES
) -> Mapping[str, Any]:
    """The state dict under names as mmengine revises them, with its metadata.

    Args:
        state_dict: Weights by name.
        revise_keys: Patterns and replacements.
    """
    revised = OrderedDict(state_dict)
    for pattern, replacement in revise_keys:
        revised = OrderedDict((re.sub(pattern, replacement, n), w) for n, w in revised.items())
    # mmengine, too, leaves the paths in there alone.
    revised._metadata = getattr(state_dict, "_metadata", {})  # type: ignore[attr-defined]
    return revised


def _failed(filename: str | Path) -> str:
    return f"checkpoint {filename} does not fit the config: "
