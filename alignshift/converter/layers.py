"""Which layers of a 2D network can work on slices, and which cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

from alignshift.operators import SliceConv

from .network import SliceNetwork

__all__ = ["check_layers", "count_layers"]


def check_layers(model: nn.Module) -> None:
    """Check, before any forward, that every layer has a counterpart on slices.

    Folded into the batch, slices pass through any layer that treats the images of a batch alike
    and expects images, which leaves few that do not.

    Args:
        model: The 2D network.

    Raises:
        ValueError: If a layer has none, naming it and its path.
    """
    for path, module in model.named_modules():
        if reason := _why_not(module):
            where = f"layer {path} ({type(module).__name__})" if path else type(module).__name__
            raise ValueError(f"model must be a 2D network, got {where}: {reason}")


def _why_not(module: nn.Module) -> str:
    if isinstance(module, SliceConv | SliceNetwork):
        return "it works on slices already; convert the 2D network that it was made from"
    if any(map(_is_3d, type(module).__mro__)):
        return "a layer for volumes has no counterpart that works on each slice"
    if isinstance(module, torch.jit.ScriptModule):
        return "the layers of a compiled module cannot be changed; convert before compiling"
    if isinstance(module, torch._dynamo.OptimizedModule):
        return "convert the network before compiling it"
    return ""


def _is_3d(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.") and kind.__name__.lower().endswith("3d")


def count_layers(model: nn.Module) -> Mapping[str, int]:
    """Number of layers that work on each slice as they are, by class.

    Args:
        model: A converted network.

    Returns:
        Numbers of modules without children, other than 2D convolutions.
    """
    leaves = (module for module in model.modules() if not any(module.children()))
    return Counter(type(leaf).__name__ for leaf in leaves if not isinstance(leaf, nn.Conv2d))
