"""What there is to choose from: operators, backbones, detectors, configs."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS

from alignshift.operators import OPERATORS
from deeplesion.engine.config import UsageError, load_config

OUR_BACKBONES = ("deeplesion.models.backbones", "deeplesion.models.slice_backbone")
MMDET_BACKBONES = ("mmdet.models.backbones",)
MMDET_DETECTORS = ("mmdet.models.detectors",)
# The operators of those backbones whose names imply one.
NATIVE_OPERATORS = {
    "DenseNetTrunc3d": "AlignShiftConv",
    "DenseNetCustomTrunc3dAlign": "AlignShiftConv",
    "DenseNetCustomTrunc3dTSM": "TSMConv",
    "DenseNetCustomTrunc3dA3D": "A3DConv",
    "DenseNetCustomTrunc": "none (2.5D)",
}
NO_OPERATOR = "none"
# What tells sizes of a backbone of mmdetection apart.
SIZES = ("depth", "arch", "deepen_factor")


@dataclass(frozen=True)
class Entry:
    """Something that a config can name.

    Attributes:
        name: Its ``type``.
        settings: Its own settings with their defaults, as they would be written; may be empty.
        summary: First line of its docstring.
    """

    name: str
    settings: str
    summary: str


@dataclass(frozen=True)
class ConfigEntry:
    """What a config file is made of.

    Attributes:
        path: The file.
        detector: Type of the detector.
        operator: The operator's name.
        backbone: The 2D backbone and its size.
    """

    path: str
    detector: str
    operator: str
    backbone: str


def list_operators() -> list[Entry]:
    """The operators, with the settings of their ``configure``."""
    return [
        Entry(name, _settings(operator.configure), _summary(operator))
        for name, operator in OPERATORS.items()
    ]


def list_registered(modules: tuple[str, ...]) -> list[Entry]:
    """Models that are registered with mmdetection and defined in some modules.

    Args:
        modules: Names of modules or packages.

    Returns:
        By name; without settings, of which there are many.
    """
    MODELS.import_from_location()
    return [
        Entry(name, "", _summary(kind))
        for name, kind in sorted(MODELS.module_dict.items())
        if any(f"{kind.__module__}.".startswith(f"{module}.") for module in modules)
    ]


def list_timm(pattern: str = "") -> list[str] | None:
    """Names of timm's networks that match a pattern such as ``resnet*``; None without timm."""
    if find_spec("timm") is None:
        return None
    # Importing it takes a while, and most runs do not need it.
    names: list[str] = importlib.import_module("timm").list_models(pattern)
    return names


def list_configs(folder: Path) -> list[ConfigEntry]:
    """The configs in the folders below one, except those that are only parts (``_base_``).

    Raises:
        UsageError: There are none, or one cannot be read.
    """
    files = [file for file in sorted(folder.glob("*/*.py")) if not file.parent.name.startswith("_")]
    if not files:
        raise UsageError(f"no configs in the folders of {folder}: give --configs")
    return [describe_config(file, load_config(str(file), None, None)) for file in files]


def describe_config(path: str | Path, cfg: Mapping[str, Any]) -> ConfigEntry:
    """Detector, operator and backbone of a config.

    Args:
        path: Where it was read from.
        cfg: The config.
    """
    model = cfg.get("model") or {}
    backbone = model.get("backbone") or {}
    implied = NATIVE_OPERATORS.get(backbone.get("type", ""), NO_OPERATOR)
    operator = backbone.get("operator", implied)
    name = operator.get("type") if isinstance(operator, Mapping) else operator
    detector = model.get("type", "")
    return ConfigEntry(str(path), detector, name or NO_OPERATOR, _describe_backbone(backbone))


def _describe_backbone(backbone: Mapping[str, Any]) -> str:
    if isinstance(backbone.get("backbone"), Mapping):
        return _describe_backbone(backbone["backbone"])
    if "model_name" in backbone:
        return f"timm {backbone['model_name']}"
    sizes = [str(backbone[name]) for name in SIZES if isinstance(backbone.get(name), int | str)]
    width = f" {backbone['groups']}x{backbone['base_width']}d" if "base_width" in backbone else ""
    return "-".join([backbone.get("type", ""), *sizes]) + width


def _settings(configure: Any) -> str:
    parameters = list(inspect.signature(configure).parameters.values())[1:]
    return ", ".join(f"{parameter.name}={parameter.default!r}" for parameter in parameters)


def _summary(kind: type) -> str:
    # Not inspect.getdoc: a class without a docstring of its own would get its parent's.
    line = (kind.__doc__ or "").strip().partition("\n")[0]
    return re.sub(r":\w+:`([^`]*)`", r"\1", line)
