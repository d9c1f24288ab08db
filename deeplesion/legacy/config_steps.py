"""The augmentations of an old config as steps of a pipeline of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deeplesion.legacy.ledger import Ledger, Status, is_read

__all__ = ["map_steps"]

# The published loader took this off after the window, as WindowCT does.
OFFSET, SCALE = -50.0, 255.0
AFFINE_ARGUMENTS = {
    "shift_limit": "shift_limit",
    "scale_limit": "scale_limit",
    "rotate_limit": "rotate_limit",
    "p": "prob",
}
PAD_SETTING = "model.data_preprocessor.pad_size_divisor"
BOOKKEEPING = "it is how arrays were handed over"
Step = dict[str, Any]


def map_steps(ledger: Ledger, split: str, window: dict[str, Any]) -> list[Step]:
    """Map the ``pre_pipeline`` of a split.

    Args:
        ledger: Of the whole config; gets the padding, which the data preprocessor does.
        split: ``train``, ``val`` or ``test``.
        window: ``WindowCT``; takes normalization in, which was linear as well.

    Returns:
        Steps after the window.
    """
    whole = f"data.{split}.pre_pipeline"
    old = ledger.get(whole)
    steps: list[Step] = []
    if not isinstance(old, list | tuple) or not any(isinstance(s, Mapping) for s in old):
        for field in ledger.below(whole):
            ledger.lose(field, "these are no steps", essential=split == "test")
        return steps
    for index, step in enumerate(old):
        path = f"{whole}[{index}]"
        kind = step.get("type") if isinstance(step, Mapping) else None
        handler = HANDLERS.get(kind) if isinstance(kind, str) and is_read(step) else None
        new = handler(ledger, path, step, window) if handler else None
        if new is None:
            # An augmentation is left out of training; a step of tests changes results.
            for field in ledger.below(path):
                ledger.lose(field, "nothing here does that", essential=split == "test")
        steps += new or []
    return steps


def _albu(ledger: Ledger, path: str, step: Step, window: Step) -> list[Step] | None:
    """Affine maps, the only ones of albumentations that the published configs have."""
    match step.get("transforms"):
        case [{"type": "ShiftScaleRotate", **affine}]:
            pass
        case _:
            return None
    inner = f"{path}.transforms[0]"
    new: Step = {"type": "RandomCTAffine"}
    for key, ours in AFFINE_ARGUMENTS.items():
        if isinstance(affine.get(key), int | float):
            new[ours] = affine[key]
            ledger.note(f"{inner}.{key}", Status.MAPPED, f"RandomCTAffine.{ours}")
    ledger.note(f"{inner}.type", Status.MAPPED, "RandomCTAffine")
    ledger.drop(f"{inner}.interpolation", "slices are warped bilinearly")
    ledger.drop(f"{inner}.border_mode", "what comes in from outside is air")
    visible = f"{path}.bbox_params.min_visibility"
    if visible in ledger.fields:
        new["min_visible"] = ledger.fields[visible]
        ledger.note(visible, Status.MAPPED, "RandomCTAffine.min_visible")
    ledger.note(f"{path}.type", Status.MAPPED, "RandomCTAffine")
    taken = set(ledger.outcomes)
    for field in ledger.below(path):
        if field not in taken and not field.startswith(f"{inner}."):
            ledger.drop(field, BOOKKEEPING)
        elif field not in taken:
            ledger.lose(field, "nothing here has it")
    return [new]


def _resize(ledger: Ledger, path: str, step: Step, window: Step) -> list[Step] | None:
    scale = step.get("img_scale")
    if not isinstance(scale, list | tuple) or len(scale) != 2:
        return None
    if not all(isinstance(side, int) for side in scale):
        return None
    ledger.note(f"{path}.type", Status.MAPPED, "ResizeCT")
    ledger.note(f"{path}.img_scale", Status.MAPPED, "ResizeCT.scale")
    ledger.note(f"{path}.keep_ratio", Status.MAPPED, "ResizeCT.keep_ratio")
    ledger.drop((f"{path}.multiscale_mode", f"{path}.ratio_range"), "there is one scale")
    keep_ratio = bool(step.get("keep_ratio", True))
    return [{"type": "ResizeCT", "scale": tuple(scale), "keep_ratio": keep_ratio}]


def _flip(ledger: Ledger, path: str, step: Step, window: Step) -> list[Step] | None:
    ratio = step.get("flip_ratio")
    if not isinstance(ratio, int | float | None) or step.get("direction", "horizontal") not in (
        "horizontal",
        "vertical",
    ):
        return None
    new: Step = {"type": "RandomCTFlip", "prob": ratio}
    if step.get("direction", "horizontal") != "horizontal":
        new["direction"] = step["direction"]
    for field in ledger.below(path):
        if ratio:
            ledger.note(field, Status.MAPPED, "RandomCTFlip")
        else:
            ledger.drop(field, "nothing is flipped")
    return [new] if ratio else []


def _normalize(ledger: Ledger, path: str, step: Step, window: Step) -> list[Step] | None:
    mean, std = (_common(step.get(key)) for key in ("mean", "std"))
    if mean is None or not std:
        return None
    if (mean, std) == (0, 1):
        ledger.drop(ledger.below(path), "it changes nothing")
        return []
    window |= {"scale": SCALE / std, "offset": (OFFSET - mean) / std}
    for field in ledger.below(path):
        ledger.note(field, Status.MAPPED, "WindowCT.scale, WindowCT.offset")
    return []


def _common(values: Any) -> float | None:
    """The number that all channels have."""
    match values:
        case [int() | float() as first, *rest] if all(value == first for value in rest):
            return first
    return None


def _pad(ledger: Ledger, path: str, step: Step, window: Step) -> list[Step] | None:
    if step.keys() - {"type", "size_divisor", "pad_val"} or step.get("pad_val", 0) != 0:
        return None
    divisor = f"{path}.size_divisor"
    ledger.map(divisor, PAD_SETTING)
    ledger.note(f"{path}.type", Status.MAPPED, "CTDataPreprocessor pads")
    ledger.note(f"{path}.pad_val", Status.MAPPED, "CTDataPreprocessor pads")
    return []


Handler = Callable[[Ledger, str, Step, Step], list[Step] | None]
HANDLERS: dict[str, Handler] = {
    "Albu": _albu,
    "Resize": _resize,
    "RandomFlip": _flip,
    "Normalize": _normalize,
    "Pad": _pad,
}
