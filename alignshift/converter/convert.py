"""Converting the layers of a 2D network."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from alignshift.operators import SliceConv, get_operator
from alignshift.operators.context import SliceContext
from alignshift.operators.swap import swap_operator
from alignshift.weights import RGB_CHANNELS, adapt_input_channels

from .layers import check_layers, count_layers
from .network import SliceNetwork
from .report import ConversionReport

__all__ = ["convert_to_3d"]


def convert_to_3d(
    model: nn.Module,
    operator: str | type[SliceConv],
    in_channels: int | None = 1,
    *,
    skip_first_conv: bool = True,
    skip: Collection[str] = (),
    in_place: bool = False,
    **settings: Any,
) -> SliceNetwork:
    """Turn a 2D network into one that takes volumes and mixes their slices.

    Every 2D convolution mixes slices before (or while) it convolves; all else works on each slice
    as it worked on an image, so that without mixing the output on a slice is that of the 2D
    network on it. Weights are kept.

    Args:
        model: Any 2D network: its modules may be of any library, its ``forward`` anything that
            treats the images of a batch alike.
        operator: What convolutions become: a class, or a name in `alignshift.OPERATORS`.
        in_channels: Channels of the volumes. The first convolution is adapted from 3 channels to so
            many, such that a grey volume gives what its RGB copy gave. ``None`` leaves it alone.
        skip_first_conv: Whether the convolution that reads the volume works on each slice alone.
        skip: Regular expressions; a convolution whose path one of them matches in full works on
            each slice alone.
        in_place: Change ``model`` itself rather than a copy.
        **settings: Settings of the operator, e.g. ``n_fold=8`` (see its `configure`).

    Returns:
        The network; its ``report`` says what was done.

    Raises:
        ValueError: If a layer has no counterpart (the message names it and its path), or a setting
            is out of range.
        TypeError: If the operator has no such setting.

    Example:
        >>> net = convert_to_3d(torchvision.models.resnet18(), AlignShiftConv, n_fold=8)
        >>> net(torch.rand(2, 1, 7, 64, 64), torch.tensor([1.0, 5.0])).shape
        torch.Size([2, 1000, 7])
    """
    kind = get_operator(operator) if isinstance(operator, str) else operator
    _check_names(kind, settings)
    check_layers(model)
    model = model if in_place else _copy(model)
    convs = {path: m for path, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    skipped = _reasons_to_skip(convs, kind, settings, skip_first_conv, skip)
    chosen = {path: conv for path, conv in convs.items() if path not in skipped}
    _check_convertible(chosen, kind)
    loaded = len(model.state_dict())
    first, expand = _adapt_first_conv(convs, in_channels)
    context = SliceContext()
    for path, conv in chosen.items():
        layer = swap_operator(conv, kind, **settings)
        layer.context, layer.path = context, path
        _to_channels_last(layer)
    if not chosen:
        warnings.warn(f"no convolution became {kind.__name__}: slices are not mixed", stacklevel=2)
    converted = dict.fromkeys(chosen, kind.__name__)
    report = ConversionReport(converted, skipped, count_layers(model), first, loaded)
    return SliceNetwork(model, context, report, None if expand else in_channels, expand)


def _copy(model: nn.Module) -> nn.Module:
    """Deep copy, also where PyTorch refuses: computed tensors (weight norm), lazy buffers."""
    kept = (t for m in model.modules() for t in vars(m).values() if isinstance(t, Tensor))
    lazy = (b for b in model.buffers() if isinstance(b, UninitializedBuffer))
    # `copy.deepcopy` takes what its memo has for an object instead of copying it.
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in kept if not t.is_leaf}
    for b in lazy:
        memo[id(b)] = UninitializedBuffer(b.requires_grad, b.device, b.dtype)  # type: ignore[arg-type]
    return copy.deepcopy(model, memo)


def _to_channels_last(layer: nn.Module) -> None:
    """Lay a kernel out as the folded slices are, rather than have that done in every forward."""
    weight = layer._parameters.get("weight")
    if weight is not None and not isinstance(weight, UninitializedParameter):
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        weight.data = weight.data.contiguous(memory_format=formats[weight.ndim])


def _check_names(kind: type[SliceConv], settings: dict[str, Any]) -> None:
    """Check the names of settings, before a copy is made."""
    if unknown := settings.keys() - set(kind.setting_names()):
        known = ", ".join(kind.setting_names()) or "none"
        raise TypeError(f"settings of {kind.__name__} must be of {known}, got {sorted(unknown)}")


def _check_convertible(convs: dict[str, nn.Conv2d], kind: type[SliceConv]) -> None:
    """Check every convolution before the first is changed."""
    for path, conv in convs.items():
        try:
            kind.check_convertible(conv)
        except ValueError as error:
            raise ValueError(f"layer {path} ({type(conv).__name__}): {error}") from error


def _adapt_first_conv(
    convs: dict[str, nn.Conv2d], in_channels: int | None
) -> tuple[str, int | None]:
    """Fit the first convolution to the channels of the volumes.

    Returns:
        What was done, and to how many channels a volume must be repeated instead.
    """
    path, conv = next(iter(convs.items()), ("", None))
    if conv is None or in_channels in (None, conv.in_channels):
        return (f"{path}, as it is" if path else ""), None
    if isinstance(conv.weight, UninitializedParameter):
        return f"{path}, takes as many channels as it gets first", None
    # Another kind may do more with its weight than convolve (standardize it), and a second one that
    # reads RGB images, in a branch of the stem, would have to be adapted, too.
    plain = type(conv) is nn.Conv2d and conv.groups == 1 and "weight" in conv._parameters
    alone = [c.in_channels for c in convs.values()].count(RGB_CHANNELS) == 1
    if plain and alone and conv.in_channels == RGB_CHANNELS:
        weight = adapt_input_channels(conv.weight.detach(), in_channels)
        conv.weight = nn.Parameter(weight, conv.weight.requires_grad)
        conv.in_channels = in_channels
        return f"{path}, from {RGB_CHANNELS} channels to {in_channels}", None
    if in_channels == 1:
        return f"{path}, as it is: volumes are repeated to {RGB_CHANNELS} channels", RGB_CHANNELS
    raise ValueError(
        f"in_channels must be 1, {RGB_CHANNELS} or None where the first convolution, {path}, "
        f"is no plain one of {RGB_CHANNELS} channels or not the only one, got {in_channels}"
    )


def _reasons_to_skip(
    convs: dict[str, nn.Conv2d],
    kind: type[SliceConv],
    settings: dict[str, Any],
    skip_first_conv: bool,
    skip: Collection[str],
) -> dict[str, str]:
    """Paths and reasons of the convolutions that go on working on each slice alone."""
    reasons = {}
    first = next(iter(convs.values()), None)
    for path, conv in convs.items():
        if skip_first_conv and conv is first:
            reasons[path] = "first convolution"
        elif skip_first_conv and first and conv.in_channels == first.in_channels == RGB_CHANNELS:
            reasons[path] = f"takes {RGB_CHANNELS} channels like the first convolution"
        elif any(re.fullmatch(pattern, path) for pattern in skip):
            reasons[path] = "told to"
    # Lazy ones have 0 channels until their first input.
    widths = {path: c.in_channels for path, c in convs.items() if path not in reasons}
    if widths and (widest := max(widths.values())):
        # Made of nothing, to have the settings checked before the first layer is changed.
        probe = kind(widest, 1, 1, device="meta", **settings)
        n_fold = getattr(probe, "n_fold", 0)
        narrow = f"fewer channels than n_fold = {n_fold}"
        reasons |= {path: narrow for path, width in widths.items() if 0 < width < n_fold}
    return reasons
