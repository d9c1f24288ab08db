"""`torch.compile` of parts of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from deeplesion.engine.config import UsageError


def compile_parts(
    model: nn.Module, parts: Sequence[str], options: Mapping[str, Any] | None = None
) -> None:
    """Compile parts of a detector in place; names and weights stay as they are.

    The backbone and the neck are one graph each. The heads are not worth compiling: what they do
    depends on how many boxes there are.

    Args:
        model: The detector.
        parts: Names of its modules, such as ``backbone`` and ``neck``.
        options: Further arguments of :func:`torch.compile`, such as ``mode``.

    Raises:
        UsageError: The detector has no such part.
    """
    for name in parts:
        try:
            part = model.get_submodule(name)
        except AttributeError:
            known = ", ".join(child for child, _ in model.named_children())
            raise UsageError(
                f"compile_parts must name modules of {type(model).__name__} ({known}), got {name!r}"
            ) from None
        part.compile(**(options or {}))
