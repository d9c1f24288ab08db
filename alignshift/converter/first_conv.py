"""Fitting a 2D network to the channels of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn
from torch.nn.parameter import UninitializedParameter

from alignshift.weights import RGB_CHANNELS, adapt_input_channels, first_convolution

__all__ = ["FirstConv", "adapt_first_conv", "plan_first_conv"]

# Channels of an RGB image whose blocks of 2 x 2, 3 x 3 or 4 x 4 pixels were made channels
# (`nn.PixelUnshuffle`, the focus of YOLO, space to depth) before the first convolution.
REARRANGED_RGB = tuple(RGB_CHANNELS * block**2 for block in (2, 3, 4))


class FirstConv(NamedTuple):
    """What will be done so that a network takes volumes of some number of channels.

    Attributes:
        path: Path of the convolution that reads the volume, if any.
        action: The same in words, for the report.
        adapt_to: Channels that its kernel is to be adapted to; ``None`` leaves it alone.
        expand_channels: Channels that grey volumes are to be repeated to, if any.
    """

    path: str | None = None
    action: str = ""
    adapt_to: int | None = None
    expand_channels: int | None = None


def plan_first_conv(
    model: nn.Module, convs: Mapping[str, nn.Conv2d], in_channels: int | None
) -> FirstConv:
    """Find out how a network is to take volumes of ``in_channels`` channels; change nothing.

    Args:
        model: The 2D network.
        convs: Its 2D convolutions by their paths.
        in_channels: Channels of the volumes; ``None`` leaves the network alone.

    Raises:
        ValueError: If it can take no such volume.
    """
    path = first_convolution(convs, in_channels)
    if path is None:
        return FirstConv()
    conv = convs[path]
    name = path or "the network itself"
    as_it_is = FirstConv(path, f"{name}, as it is")
    if in_channels is None:
        return as_it_is
    if isinstance(conv._parameters.get("weight"), UninitializedParameter):
        return FirstConv(path, f"{name}, takes as many channels as it gets first")
    reads = RGB_CHANNELS if conv.in_channels in REARRANGED_RGB else conv.in_channels
    if in_channels in (reads, conv.in_channels):
        return as_it_is
    reason = _why_not_adapted(model, convs, path)
    if not reason:
        action = f"{name}, from {conv.in_channels} channels to {in_channels}"
        return FirstConv(path, action, adapt_to=in_channels)
    if in_channels == 1:
        action = f"{name}, as it is ({reason}): volumes are repeated to {reads} channels"
        return FirstConv(path, action, expand_channels=reads)
    possible = ", ".join(map(str, sorted({1, reads})))
    raise ValueError(
        f"in_channels must be {possible} or None where the first convolution cannot be adapted, "
        f"got {in_channels}: {name} {reason}"
    )


def _why_not_adapted(model: nn.Module, convs: Mapping[str, nn.Conv2d], path: str) -> str:
    conv = convs[path]
    if any(getattr(module, "transform_input", False) is True for module in model.modules()):
        return "stands behind a transform_input of its network, which picks channels"
    if type(conv) is not nn.Conv2d or "weight" not in conv._parameters:
        # It may do more with its weight than convolve (standardize it).
        return f"is a {type(conv).__name__}, no plain nn.Conv2d"
    if conv.groups != 1:
        return f"has {conv.groups} groups"
    if conv.in_channels in REARRANGED_RGB:
        return f"takes {conv.in_channels} channels, those of rearranged RGB pixels"
    # A second one, in a branch of the stem, would have to be adapted, too.
    alike = [c.in_channels for c in convs.values()].count(RGB_CHANNELS)
    if conv.in_channels == RGB_CHANNELS and alike > 1:
        return f"is one of {alike} that take {RGB_CHANNELS} channels"
    return ""


def adapt_first_conv(conv: nn.Conv2d, in_channels: int) -> None:
    """Adapt a plain convolution to another number of input channels, in place.

    Args:
        conv: The convolution.
        in_channels: Number of channels wanted.
    """
    weight = adapt_input_channels(conv.weight.detach(), in_channels)
    conv.weight = nn.Parameter(weight, conv.weight.requires_grad)
    conv.in_channels = in_channels
