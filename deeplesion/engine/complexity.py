"""How large the detector of a config is and how much it computes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from deeplesion.engine.config import UsageError, datasets_of
from deeplesion.engine.flops import FlopCount, InputSize, Parts, count_flops, count_parameters
from deeplesion.engine.network_config import BACKBONE_25D
from deeplesion.models.data_preprocessor import CTDataPreprocessor

# What has a model read weights, or fetch them, while it is built.
WEIGHT_SETTINGS = ("pretrained", "checkpoint_path")
# What a wrong setting may raise where a model is built.
BUILD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Complexity:
    """What a detector costs.

    Attributes:
        input_size: The stack of slices that the FLOPs are for, padding included.
        parameters: Numbers of parameters, trained or not.
        counted: FLOPs at inference.
    """

    input_size: InputSize
    parameters: Parts
    counted: FlopCount


def measure(
    cfg: Config, num_slices: int | None = None, size: Sequence[int] | None = None
) -> Complexity:
    """Count parameters and FLOPs of a config's detector for one stack of slices.

    No weights are loaded, and most is worked out from shapes alone, in seconds.

    Args:
        cfg: A config whose model has a ``CTDataPreprocessor``; it is not changed.
        num_slices: Slices of the stack, for which the network is then built; the config's if None.
        size: Height and width in px before padding; the config's if None.

    Returns:
        What was counted.

    Raises:
        UsageError: The model cannot be built or does not take such a stack, or the config does not
            say how large one is.
    """
    wanted = input_size(cfg, num_slices, size)
    model_cfg = without_weights(cfg.get("model") or {})
    if num_slices is not None:
        set_num_slices(model_cfg, num_slices)
    model = build_detector(model_cfg, cfg.get("default_scope") or "mmdet")
    divisor = model.data_preprocessor.pad_size_divisor
    height, width = (-(-extent // divisor) * divisor for extent in wanted[1:])
    padded = InputSize(wanted.slices, height, width)
    try:
        counted = count_flops(model, padded)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"{type(model).__name__} does not take a stack of {padded.slices} slices of "
            f"{height} x {width} px: {_first_line(error)}"
        ) from error
    return Complexity(padded, count_parameters(model), counted)


def input_size(
    cfg: Config, num_slices: int | None = None, size: Sequence[int] | None = None
) -> InputSize:
    """Extent of the stacks that a config's network gets, before padding.

    Args:
        cfg: The config; ``LoadCTSlices`` and ``Resize`` of its last dataloader say it.
        num_slices: Says D instead.
        size: Says H and W instead, in px.

    Raises:
        UsageError: Nothing says it, or a number is out of range.
    """
    steps = (step for _, dataset in datasets_of(cfg) for step in dataset.get("pipeline", []))
    found = {step["type"]: step for step in steps}
    if num_slices is None:
        num_slices = found.get("LoadCTSlices", {}).get("num_slices")
    if size is None:
        scale = (found.get("ResizeCT") or found.get("Resize", {})).get("scale")
        # mmdetection's scales are (width, height), or one number.
        size = scale[::-1] if isinstance(scale, Sequence) else (scale, scale) if scale else None
    if num_slices is None or size is None:
        option = "--slices" if num_slices is None else "--size"
        raise UsageError(f"no pipeline of the config says how large an input is: give {option}")
    if num_slices < 1 or num_slices % 2 == 0:
        raise UsageError(f"the number of slices must be odd and >= 1, got {num_slices}")
    if min(size) < 1:
        raise UsageError(f"the size must be >= 1 px, got {size[0]} x {size[1]}")
    return InputSize(num_slices, size[0], size[1])


def without_weights(model_cfg: Any) -> Any:
    """Deep copy of a model's config, without what loads weights while the model is built."""
    if isinstance(model_cfg, dict):
        kept = {key: value for key, value in model_cfg.items() if key not in WEIGHT_SETTINGS}
        return type(model_cfg)({key: without_weights(value) for key, value in kept.items()})
    if isinstance(model_cfg, list | tuple):
        return type(model_cfg)(without_weights(item) for item in model_cfg)
    return model_cfg


def set_num_slices(model_cfg: dict, num_slices: int) -> None:
    """Make the parts of a model that are built for a number of slices fit another.

    Args:
        model_cfg: Config of a detector, changed in place.
        num_slices: Slices D of a stack.
    """
    backbone, neck = model_cfg.get("backbone") or {}, model_cfg.get("neck") or []
    parts = [backbone]
    # In 2.5D the slices are channels, and the neck gets a stack of one.
    if backbone.get("type") != BACKBONE_25D:
        parts += neck if isinstance(neck, list) else [neck]
    for part in parts:
        kind = MODELS.get(part["type"]) if "type" in part else None
        if kind is not None and "num_slices" in inspect.signature(kind).parameters:
            part["num_slices"] = num_slices
    for settings in (backbone.get("operator"), backbone.get("operator_kwargs")):
        if isinstance(settings, dict) and "dimension" in settings:
            settings["dimension"] = num_slices


def build_detector(model_cfg: dict, scope: str = "mmdet") -> BaseDetector:
    """Build a detector for CT, in evaluation mode, with the weights that it begins with.

    Args:
        model_cfg: Its config; mmdetection changes it.
        scope: The registry's scope.

    Raises:
        UsageError: It cannot be built, or it is not for :class:`CTInputs`.
    """
    init_default_scope(scope)
    try:
        model = MODELS.build(model_cfg)
    except BUILD_ERRORS as error:
        raise UsageError(f"the model cannot be built: {_first_line(error)}") from error
    preprocessor = type(getattr(model, "data_preprocessor", None))
    if not issubclass(preprocessor, CTDataPreprocessor):
        raise UsageError(
            "model.data_preprocessor must be a CTDataPreprocessor, which makes CTInputs, "
            f"got {preprocessor.__name__}"
        )
    return model.eval()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
