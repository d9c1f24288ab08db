"""Loading 2D weights into 3D-context networks, with a report of what did not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from .operators import SliceConv

__all__ = [
    "LoadReport",
    "adapt_input_channels",
    "first_convolution",
    "load_2d_weights",
    "read_state_dict",
]

# What wrappers, detectors and torchvision put before the names of a trunk.
PREFIXES = ("module.", "backbone.", "features.", "model.")
# torchvision's old DenseNet files say `denselayer1.norm.1` where the modules are called `norm1`.
OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+)\.")
# Keys under which a checkpoint keeps its state dict.
STATE_DICT_KEYS = ("state_dict", "model")
RGB_CHANNELS = 3
# Counts batches, means nothing for the result, and old files lack it.
IGNORED_SUFFIX = "num_batches_tracked"
UNKNOWN = "the model has no such parameter"


@dataclass(frozen=True)
class LoadReport:
    """What `load_2d_weights` did.

    Attributes:
        loaded: Names in the model that were loaded.
        skipped: Names in the checkpoint that were not used, with the reason.
        missing: Names in the model that the checkpoint has nothing for; they keep their values.
    """

    loaded: tuple[str, ...]
    skipped: Mapping[str, str]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """List what was not loaded; names that the model does not have, by their module."""
        unknown = Counter(_module(name) for name, why in self.skipped.items() if why == UNKNOWN)
        unfit = {name: why for name, why in self.skipped.items() if why != UNKNOWN}
        lines = [
            f"{len(self.loaded)} tensors loaded, {len(self.skipped)} of the checkpoint skipped, "
            f"{len(self.missing)} of the model missing",
            *(f"  skipped {name}: {why}" for name, why in unfit.items()),
            *(f"  skipped {module}.* ({n}): {UNKNOWN}" for module, n in unknown.items()),
            *(f"  missing {name}" for name in self.missing),
        ]
        return "\n".join(lines)


def adapt_input_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Fit the kernel of a first convolution to another number of input channels.

    The sum over the input channels is kept, which is all that a grey image sees: the response to it
    on ``in_channels`` channels is, up to rounding, the one that its RGB copy gave.

    Args:
        weight: Kernel of shape (C_out, C_in, ...), e.g. (64, 3, 7, 7); never changed.
        in_channels: Number of channels wanted, 1 or more.

    Returns:
        ``weight`` itself where it has that number already, else a new kernel of shape
        (C_out, in_channels, ...), alike in all its input channels.

    Raises:
        ValueError: If ``in_channels`` is less than 1.
    """
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")
    if weight.shape[1] == in_channels:
        return weight
    shared = weight.sum(1, keepdim=True) / in_channels
    return shared.expand(-1, in_channels, *weight.shape[2:]).contiguous()


def first_convolution(convs: Mapping[str, nn.Conv2d], in_channels: int | None = None) -> str | None:
    """Path of the convolution that reads the images.

    The first one, unless it takes too many channels for that (a head, registered before the stem)
    and another does not.

    Args:
        convs: Convolutions of a network by their paths, in its order.
        in_channels: Number of channels that images are known to have.

    Returns:
        Its path, or ``None`` where there is no convolution.
    """
    first = next(iter(convs), None)
    if first is None or convs[first].in_channels in (in_channels, *range(RGB_CHANNELS + 1)):
        return first
    few = (path for path, conv in convs.items() if 0 < conv.in_channels <= RGB_CHANNELS)
    return next(few, first)


def load_2d_weights(model: nn.Module, state_dict: Mapping[str, Any]) -> LoadReport:
    """Load the weights of a 2D network into its 3D-context counterpart.

    Takes off prefixes (``module.``, ``backbone.``, ``features.``, ``model.``), knows torchvision's
    old DenseNet names, and fits the first convolution, where it reads RGB images, to another number
    of input channels such that a grey image gives the response that its RGB copy gave.

    Args:
        model: Model to load into.
        state_dict: Names and tensors, e.g. of torchvision's DenseNet-121.

    Returns:
        What was loaded, skipped and missing; print it.

    Raises:
        ValueError: If nothing at all could be loaded.
    """
    targets = model.state_dict(keep_vars=True)
    kernels = _kernel_shapes(model)
    stem = _first_kernel(model)
    fitted: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for key, value in state_dict.items():
        name = _target_name(key, targets)
        if name is None:
            skipped[key] = UNKNOWN
        elif name in fitted:
            skipped[key] = f"{name} was loaded from another name already"
        elif (tensor := _fit(value, targets[name], kernels, stem)) is None:
            skipped[key] = f"is {_describe(value)}, {name} is {_describe(targets[name])}"
        else:
            fitted[name] = tensor
    if not fitted:
        raise ValueError(
            "state_dict must have names of the model, e.g. "
            f"{list(targets)[:2]}, got {list(state_dict)[:2]} ({len(state_dict)} names, none fits)"
        )
    model.load_state_dict(fitted, strict=False)
    missing = (name for name in targets if name not in fitted and not name.endswith(IGNORED_SUFFIX))
    return LoadReport(tuple(fitted), skipped, tuple(missing))


def read_state_dict(path_or_url: str | Path) -> dict[str, Any]:
    """Read a state dict from a file, or from the web through PyTorch's download cache.

    Only tensors and plain containers are unpickled (``weights_only=True``).

    Args:
        path_or_url: Path, or a URL that begins with ``http://`` or ``https://``.

    Returns:
        The state dict, taken out of ``{"state_dict": ...}`` or ``{"model": ...}`` if it is in one.

    Raises:
        FileNotFoundError: If there is no such file.
        ConnectionError: If the URL cannot be fetched.
        ValueError: If the file is not a checkpoint of tensors.
    """
    source = str(path_or_url)
    try:
        checkpoint = _read(source)
    except OSError:
        raise
    except Exception as error:  # A damaged file makes the unpickler stumble in any way.
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{source} must be a PyTorch checkpoint of tensors and plain containers: {reason}"
        ) from error
    state_dict = checkpoint
    for key in STATE_DICT_KEYS:
        if isinstance(state_dict, dict) and isinstance(state_dict.get(key), dict):
            state_dict = state_dict[key]
    if not isinstance(state_dict, dict) or not any(map(torch.is_tensor, state_dict.values())):
        raise ValueError(f"{source} must hold a state dict, got {_describe(checkpoint)}")
    return state_dict


def _read(source: str) -> Any:
    if not source.startswith(("http://", "https://")):
        if not Path(source).is_file():
            raise FileNotFoundError(f"no checkpoint at {source}: give a file or a URL")
        return torch.load(source, map_location="cpu", weights_only=True)
    try:
        return torch.hub.load_state_dict_from_url(source, map_location="cpu", weights_only=True)
    except (URLError, TimeoutError) as error:
        raise ConnectionError(
            f"could not download {source} ({error}): fetch it by other means and give the file"
        ) from error


def _target_name(key: str, targets: Mapping[str, Tensor]) -> str | None:
    """Name in the model that a checkpoint's name stands for."""
    name = OLD_DENSENET_NAME.sub(r"\1\2.", key)
    while name not in targets:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return None
        name = name.removeprefix(prefix)
    return name


def _kernel_shapes(model: nn.Module) -> dict[int, tuple[int, ...]]:
    """Shapes of the 2D kernels that the operators of a model load, by the ids of their weights.

    An operator with a 3D kernel makes it of a 2D one by itself, in its `load_state_dict`.
    """
    return {
        id(module.weight): (
            module.out_channels,
            module.in_channels // module.groups,
            *module.kernel_size,
        )
        for module in model.modules()
        if isinstance(module, SliceConv)
    }


def _first_kernel(model: nn.Module) -> Tensor | None:
    """Weight of the convolution that reads the images."""
    convs = {path: conv for path, conv in model.named_modules() if isinstance(conv, nn.Conv2d)}
    path = first_convolution(convs)
    return None if path is None else convs[path].weight


def _fit(
    value: Any, target: Tensor, kernels: Mapping[int, tuple[int, ...]], stem: Tensor | None
) -> Tensor | None:
    """The tensor in the shape of ``target``, or ``None`` if it cannot be brought into it.

    A 2D kernel, whose shape ``kernels`` has, will do as well, and for ``stem`` one of RGB images.
    """
    if not isinstance(value, Tensor):
        return None
    wanted = kernels.get(id(target), tuple(target.shape))
    if value.shape in (target.shape, wanted):
        return value
    others_equal = value.ndim == len(wanted) == 4 and value[:, 0].shape == wanted[:1] + wanted[2:]
    if target is not stem or not others_equal or value.shape[1] != RGB_CHANNELS:
        return None
    return adapt_input_channels(value, wanted[1])


def _module(name: str) -> str:
    """Outermost module that a checkpoint's name lies in, with the prefixes before it."""
    prefix = re.match(f"(?:{'|'.join(map(re.escape, PREFIXES))})*", name)
    length = prefix.end() if prefix else 0
    return name[:length] + name[length:].partition(".")[0]


def _describe(value: Any) -> str:
    """The shape of a tensor, the type of anything else."""
    if isinstance(value, Tensor):
        return f"of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
