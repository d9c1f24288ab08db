"""Which classes an old config may name.

Today's registries import what a name that they do not have says, and some of their classes read or
fetch files. A config may come from anyone, so it gets what trains a detector and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.registry import MODELS, OPTIMIZERS, TASK_UTILS

from deeplesion.legacy.ledger import Ledger

__all__ = ["refuse_types"]

# Registries, and the modules of the classes that a config may take from them.
ALLOWED = (
    (MODELS, ("mmdet.models.losses.", "deeplesion.models.losses.")),
    (
        TASK_UTILS,
        (
            "mmdet.models.task_modules.assigners.",
            "mmdet.models.task_modules.samplers.",
            "deeplesion.models.sampling",
        ),
    ),
    (OPTIMIZERS, ("torch.optim.",)),
)
# Functions of mmcv, which looks them up by ``eval``.
NMS = ("nms", "soft_nms")
# Chosen by us, whatever a config says.
OURS = ("model.type", "model.backbone.type", "optim_wrapper.type", "param_scheduler")
WHY = "it is no loss, assigner, sampler, optimizer or nms that is known here"


def refuse_types(ledger: Ledger) -> None:
    """Take settings back that name any other class than a config may; those of networks fail.

    Args:
        ledger: Of a config that was mapped.
    """
    names = _allowed_names()
    for path, value in list(ledger.settings.items()):
        unknown = [kind for kind in _types(path, value) if kind not in names]
        if unknown and path not in OURS:
            ledger.take_back(path, unknown[0], WHY, essential=path.startswith("model."))


def _allowed_names() -> set[str]:
    names = set(NMS)
    for registry, modules in ALLOWED:
        registry.import_from_location()
        known = {**(registry.parent.module_dict if registry.parent else {}), **registry.module_dict}
        names |= {name for name, c in known.items() if f"{c.__module__}.".startswith(modules)}
    return names


def _types(name: str, value: Any) -> Iterator[str]:
    """Every ``type`` in nested data, as text; only text can name a class that is allowed."""
    if name.rpartition(".")[2] == "type":
        yield value if isinstance(value, str) else repr(value)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _types(str(key), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _types("", item)
