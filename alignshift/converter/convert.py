"""Converting the layers of a 2D network."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from alignshift.operators import OPERATORS, SliceConv, get_operator
from alignshift.operators.context import SliceContext
from alignshift.operators.swap import swap_operator
from alignshift.weights import RGB_CHANNELS

from .first_conv import FirstConv, adapt_first_conv, plan_first_conv
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
    skip: str | Collection[str] = (),
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
        in_channels: Channels of the volumes. The first convolution is adapted to so many, such that
            a grey volume gives what its copy in the channels of the 2D network gave; where it is no
            plain one, grey volumes are repeated instead. As many channels as the 2D network takes,
            or ``None``, leave it alone.
        skip_first_conv: Whether the convolution that reads the volume works on each slice alone.
        skip: A regular expression or more; a convolution whose path one of them matches in full
            works on each slice alone.
        in_place: Change ``model`` itself rather than a copy.
        **settings: Settings of the operator, e.g. ``n_fold=8`` (see its `configure`).

    Returns:
        The network; its ``report`` says what was done.

    Raises:
        ValueError: If a layer has no counterpart (the message names it and its path), an argument
            or a setting is out of range, or a pattern of ``skip`` matches no convolution.
        TypeError: If an argument is of the wrong type, or the operator has no such setting.

    Example:
        >>> net = convert_to_3d(torchvision.models.resnet18(), AlignShiftConv, n_fold=8)
        >>> net(torch.rand(2, 1, 7, 64, 64), torch.tensor([1.0, 5.0])).shape
        torch.Size([2, 1000, 7])
    """
    arguments = (in_channels, skip_first_conv, skip, in_place)
    return convert(model, operator, *arguments, settings, stacklevel=3)


def convert(
    model: nn.Module,
    operator: str | type[SliceConv],
    in_channels: int | None,
    skip_first_conv: bool,
    skip: str | Collection[str],
    in_place: bool,
    settings: dict[str, Any],
    stacklevel: int,
) -> SliceNetwork:
    """`convert_to_3d` for a caller that warns in the name of its own.

    Args:
        model: As in `convert_to_3d`, like all that follow.
        operator: Class or name.
        in_channels: Channels of the volumes.
        skip_first_conv: Whether the first convolution works on each slice alone.
        skip: Regular expressions.
        in_place: Change ``model`` itself.
        settings: Settings of the operator.
        stacklevel: Which caller a warning points at, as in `warnings.warn`.

    Returns:
        The network.
    """
    kind = get_operator(operator) if isinstance(operator, str) else operator
    _check_types(model, kind, in_channels)
    _check_names(kind, settings)
    check_layers(model)
    model = model if in_place else _copy(model)
    convs = {path: m for path, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    first = plan_first_conv(model, convs, in_channels)
    skipped = _told_to_skip(convs, first.path, skip_first_conv, skip)
    skipped |= _too_narrow(convs, first, kind, settings, skipped)
    chosen = {path: conv for path, conv in convs.items() if path not in skipped}
    _check_convertible(chosen, kind)
    # Nothing was changed so far, and nothing is refused from here on.
    loaded = len(model.state_dict())
    if first.path is not None and first.adapt_to is not None:
        adapt_first_conv(convs[first.path], first.adapt_to)
    context = SliceContext()
    _swap(chosen, kind, settings, context)
    if not chosen:
        message = f"no convolution became {kind.__name__}: slices are not mixed"
        warnings.warn(message, stacklevel=stacklevel)
    converted = dict.fromkeys(chosen, kind.__name__)
    report = ConversionReport(converted, skipped, count_layers(model), first.action, loaded)
    return SliceNetwork(model, context, report, in_channels, first.expand_channels)


def _swap(
    convs: Mapping[str, nn.Conv2d],
    kind: type[SliceConv],
    settings: dict[str, Any],
    context: SliceContext,
) -> None:
    """Turn convolutions into the operator, all with one context."""
    # Convolutions that share a weight go on sharing what the operator made of it.
    made: dict[nn.Parameter, nn.Parameter] = {}
    for path, conv in convs.items():
        old = conv._parameters.get("weight")
        layer = swap_operator(conv, kind, **settings)
        layer.context, layer.path = context, path
        if old is not None and layer.weight is not old:
            layer.weight = made.setdefault(old, cast("nn.Parameter", layer.weight))
        _to_channels_last(layer)


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


def _check_types(model: nn.Module, kind: type[SliceConv], in_channels: int | None) -> None:
    """Check what everything else takes for granted."""
    if not isinstance(model, nn.Module):
        call = f": call it, {model.__name__}()" if callable(model) else ""
        raise TypeError(f"model must be a 2D network, an nn.Module, got {model!r}{call}")
    if not (isinstance(kind, type) and issubclass(kind, SliceConv)):
        names = ", ".join(OPERATORS)
        raise TypeError(f"operator must be a SliceConv class or one of {names}, got {kind!r}")
    if in_channels is not None and not isinstance(in_channels, int):
        raise TypeError(f"in_channels must be an integer or None, got {in_channels!r}")
    if in_channels is not None and in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}")


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


def _told_to_skip(
    convs: Mapping[str, nn.Conv2d],
    first: str | None,
    skip_first_conv: bool,
    skip: str | Collection[str],
) -> dict[str, str]:
    """Paths and reasons of the convolutions that the arguments leave out."""
    patterns = (skip,) if isinstance(skip, str) else tuple(skip)
    matches = {pattern: _matches(pattern, convs) for pattern in patterns}
    if useless := [pattern for pattern, paths in matches.items() if not paths]:
        some = ", ".join(list(convs)[:3]) or "none"
        raise ValueError(
            f"skip must match whole paths of 2D convolutions (there are {some}, ...), "
            f"got {useless}, which match none"
        )
    rgb = first is not None and convs[first].in_channels == RGB_CHANNELS
    reasons = {}
    for path, conv in convs.items():
        if skip_first_conv and path == first:
            reasons[path] = "first convolution"
        elif skip_first_conv and rgb and conv.in_channels == RGB_CHANNELS:
            reasons[path] = f"takes {RGB_CHANNELS} channels like the first convolution"
        elif any(path in paths for paths in matches.values()):
            reasons[path] = "told to"
    return reasons


def _matches(pattern: str, paths: Collection[str]) -> set[str]:
    try:
        return {path for path in paths if re.fullmatch(pattern, path)}
    except re.error as error:
        raise ValueError(f"skip must be regular expressions, got {pattern!r}: {error}") from error


def _too_narrow(
    convs: Mapping[str, nn.Conv2d],
    first: FirstConv,
    kind: type[SliceConv],
    settings: dict[str, Any],
    skipped: Collection[str],
) -> dict[str, str]:
    """Paths and reasons of convolutions with fewer channels than the operator can mix."""
    widths = {path: conv.in_channels for path, conv in convs.items() if path not in skipped}
    if first.path in widths and first.adapt_to is not None:
        widths[first.path] = first.adapt_to
    # Lazy ones have 0 channels until their first input.
    if not any(widths.values()):
        return {}
    # Made of nothing, to have the settings checked before the first layer is changed.
    kind(max(widths.values()), 1, 1, device="meta", **settings)
    fewest = kind.min_channels(settings)
    narrow = f"fewer channels than n_fold = {fewest}"
    return {path: narrow for path, width in widths.items() if 0 < width < fewest}
