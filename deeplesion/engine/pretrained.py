"""Fine-tuning from a 2D detector: its weights into a slice detector, with a report."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from alignshift.weights import (
    IGNORED_SUFFIX,
    RGB_CHANNELS,
    UNKNOWN,
    LoadReport,
    adapt_input_channels,
)

NECK = "neck."
# So many lines of one kind are shown by name, more by module.
SHOWN_NAMES = 12
MODULE_DEPTH = 2


def fit_detector_weights(model: nn.Module, state_dict: Mapping[str, Any]) -> LoadReport:
    """Load what fits of a detector's weights, e.g. those of a 2D detector trained on COCO.

    Beside tensors of the same name and shape these are loaded: the first convolution of RGB images,
    fitted to the model's number of input channels; a neck, where the model has it in a list behind
    the collapse of the slices; what the modules themselves take under an old name or in another
    shape, such as a 2D kernel to be inflated. Heads for other classes are skipped.

    Args:
        model: The detector to load into.
        state_dict: Names and tensors; never changed.

    Returns:
        What was loaded, skipped and missing, by the names in the state dicts; nothing is loaded
        where nothing fits. Counters of batches are loaded, but not reported.
    """
    renames = {name: _name_in_neck(name, model) for name in state_dict}
    renamed = OrderedDict((renames[name], value) for name, value in state_dict.items())
    metadata = getattr(state_dict, "_metadata", {})
    renamed._metadata = {  # type: ignore[attr-defined]
        _name_in_neck(path, model): entry for path, entry in metadata.items()
    }
    own = model.state_dict(keep_vars=True)
    fitter = _Fitter(own.values())
    with ExitStack() as hooks:
        for module in model.modules():
            hook = module.register_load_state_dict_pre_hook(fitter)
            hooks.callback(hook.remove)
        model.load_state_dict(renamed, strict=False)
    skipped = {
        name: reason
        for name, value in state_dict.items()
        if (reason := fitter.why_skipped(value, own.get(renames[name])))
    }
    reported = [name for name in own if not name.endswith(IGNORED_SUFFIX)]
    return LoadReport(
        loaded=tuple(name for name in reported if fitter.has_loaded(own[name])),
        skipped={key: why for key, why in skipped.items() if not key.endswith(IGNORED_SUFFIX)},
        missing=tuple(name for name in reported if not fitter.has_loaded(own[name])),
    )


def describe_load(report: LoadReport) -> str:
    """Describe what was loaded in a few lines: sums first, then names that differ only in numbers.

    Args:
        report: Of `fit_detector_weights`.

    Returns:
        Text such as ``missing neck.*.reductions.*.weight (4)``; where there are more than a dozen
        of such lines of one kind, those of a module become one.
    """
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in report.skipped.items():
        names_by_reason.setdefault(reason, []).append(name)
    lines = [
        f"{len(report.loaded)} tensors loaded, {len(report.skipped)} of the file skipped, "
        f"{len(report.missing)} of the model missing, which keep their values",
        *(
            f"  skipped {group}: {reason}"
            for reason, names in names_by_reason.items()
            for group in _grouped(names)
        ),
        *(f"  missing {group}" for group in _grouped(report.missing)),
    ]
    return "\n".join(lines)


class _Fitter:
    """Fits tensors when they reach the module they are for, after it has renamed or inflated them.

    A hook before loading that is called with every module. It keeps identities of tensors, because
    names change on the way.
    """

    def __init__(self, own: Iterable[Tensor]) -> None:
        self._own = {id(tensor) for tensor in own}
        self._loaded: set[int] = set()
        self._arrived: set[int] = set()
        self._reasons: dict[int, str] = {}

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Put each tensor for this very module in its shape, or take it out."""
        for name, own in {**module._parameters, **module._buffers}.items():
            key = prefix + name
            if own is None or id(own) not in self._own or key not in state_dict:
                continue
            value = state_dict[key]
            self._arrived.add(id(value))
            if (fitted := _fit(value, own.shape)) is not None:
                state_dict[key] = fitted
                self._loaded.add(id(own))
                continue
            reason = f"is {_describe(value)} in the file, {_describe(own)} in the model"
            self._reasons[id(value)] = self._reasons[id(own)] = reason
            del state_dict[key]

    def has_loaded(self, own: Tensor) -> bool:
        """Whether a tensor of the model was loaded."""
        return id(own) in self._loaded

    def why_skipped(self, value: Any, target: Tensor | None) -> str | None:
        """Why a tensor of the file was not used; ``None`` if it was.

        Args:
            value: Tensor of the file.
            target: Tensor of the model under the same name, where there is one.
        """
        identities = (id(value), id(target))
        for identity in identities:
            if identity in self._reasons:
                return self._reasons[identity]
        used = id(value) in self._arrived or id(target) in self._loaded
        return None if used else UNKNOWN


def _name_in_neck(name: str, model: nn.Module) -> str:
    """Name in a neck made of a list: that of the file, with the index of the module that has it.

    The file may have a list, too, without the collapse of the slices at its head.
    """
    neck = getattr(model, "neck", None)
    if not name.startswith(NECK) or not isinstance(neck, nn.Sequential):
        return name
    index, _, rest = name.removeprefix(NECK).partition(".")
    if not index.isdigit():
        index, rest = "", name.removeprefix(NECK)
    modules = dict(neck.named_children())
    child = rest.partition(".")[0]
    if index in modules and _has(modules[index], child):
        return name
    owner = next((index for index, module in modules.items() if _has(module, child)), None)
    return name if owner is None else f"{NECK}{owner}.{rest}"


def _has(module: nn.Module, child: str) -> bool:
    return child in module._modules or child in module._parameters or child in module._buffers


def _fit(value: Any, shape: tuple[int, ...]) -> Tensor | None:
    """The tensor in the wanted shape, or ``None`` if it cannot be brought into it."""
    if not isinstance(value, Tensor):
        return None
    if value.shape == shape:
        return value
    is_kernel = value.ndim == len(shape) >= 4
    if not is_kernel or value[:, 0].shape != (shape[0], *shape[2:]):
        return None
    return adapt_input_channels(value, shape[1]) if value.shape[1] == RGB_CHANNELS else None


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _grouped(names: Iterable[str]) -> list[str]:
    """Names that differ only in numbers as one, with their count; by module if those are many."""
    by_pattern = _counted(names, lambda name: re.sub(r"\d+", "*", name))
    if len(by_pattern) <= SHOWN_NAMES:
        return by_pattern
    return _counted(names, _module)


def _counted(names: Iterable[str], group_of: Callable[[str], str]) -> list[str]:
    """Groups of names with their counts; a name that is alone in its group as it is."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(group_of(name), []).append(name)
    return [
        f"{group} ({len(alike)})" if len(alike) > 1 else alike[0]
        for group, alike in members.items()
    ]


def _module(name: str) -> str:
    return ".".join(name.split(".")[:-1][:MODULE_DEPTH]) + ".*"
