"""Faults of a network's config that can be told before it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.registry import MODELS

from alignshift.operators import OPERATORS, get_operator

NETWORK_PARTS = ("backbone", "neck")
SLICE_BACKBONE = "SliceBackbone"
# Takes slices as the channels of an image.
BACKBONE_25D = "DenseNetCustomTrunc"
OUR_PREFIX = "DenseNet"
# As many as the widest layers have: settings that suit no layer of any network are refused.
PROBE_CHANNELS = 2048


def check_backbone(backbone: Mapping[str, Any], path: str = "model.backbone") -> None:
    """Check that a backbone, its operator and the 2D backbone inside it are known.

    Args:
        backbone: Its config.
        path: Where that stands in the whole config, for the message.

    Raises:
        ValueError: One is not, and those there are are listed; or the operator does not take the
            settings it is given.
    """
    name, operator, inner = (backbone.get(key) for key in ("type", "operator", "backbone"))
    if isinstance(name, str) and MODELS.get(name) is None:
        raise ValueError(
            f"{path}.type must be a registered backbone, got {name!r}: "
            f"{', '.join(_our_backbones())} or one of mmdetection's"
        )
    if isinstance(operator, str | Mapping):
        settings = {"type": operator} if isinstance(operator, str) else dict(operator)
        check_operator(settings, f"{path}.operator")
    if isinstance(inner, Mapping):
        check_backbone(inner, f"{path}.backbone")


def _our_backbones() -> list[str]:
    native = sorted(name for name in MODELS.module_dict if name.startswith(OUR_PREFIX))
    operators = ", ".join(sorted(OPERATORS))
    return [f"{SLICE_BACKBONE} (operators: {operators})", "TimmBackbone", *native]


def check_operator(operator: Mapping[str, Any], path: str = "model.backbone.operator") -> None:
    """Check that an operator is known and takes the settings it is given.

    Args:
        operator: ``type`` and settings.
        path: Where that stands in the whole config, for the message.

    Raises:
        ValueError: There is no such operator, it has no such setting, or its value suits no layer.
    """
    settings = dict(operator)
    name = settings.pop("type", None)
    if name not in OPERATORS:
        raise ValueError(f"{path} must be one of {', '.join(sorted(OPERATORS))}, got {name!r}")
    known = get_operator(name).setting_names()
    if unknown := sorted(settings.keys() - set(known)):
        raise ValueError(
            f"{path} must have settings of {name} ({', '.join(known) or 'it has none'}), got "
            f"{', '.join(unknown)}: `_delete_=True` beside `type` drops those of another operator"
        )
    try:
        get_operator(name)(PROBE_CHANNELS, PROBE_CHANNELS, 1, device="meta", **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def network_slices(model: Mapping[str, Any]) -> dict[str, int]:
    """Numbers of slices that the parts of a network are made for.

    Args:
        model: Config of a detector.

    Returns:
        ``num_slices`` by the path of each part that has it, e.g. ``model.neck.0`` in a list.
    """
    found = {}
    in_channels = (model.get("backbone") or {}).get("type") == BACKBONE_25D
    # In 2.5D the slices are channels, and the neck gets a stack of one.
    for name in NETWORK_PARTS[:1] if in_channels else NETWORK_PARTS:
        part = model.get(name)
        several = enumerate(part) if isinstance(part, list | tuple) else ()
        parts = {f"model.{name}.{index}": one for index, one in several}
        for path, one in (parts or {f"model.{name}": part}).items():
            if isinstance(one, Mapping) and "num_slices" in one:
                found[path] = one["num_slices"]
    return found
