"""Which published network a state dict holds, told by its names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deeplesion.engine.checkpoint import IGNORED_SUFFIX, CheckpointError
from deeplesion.legacy.families import FAMILIES, Family
from deeplesion.legacy.keys import BOX_DELTAS

__all__ = ["PublishedNetwork", "recognize", "unknown_names"]

# No part of a network has a hundred of anything.
NUMBER = "(0|[1-9][0-9]?)"
KNOWN = re.compile(
    r"backbone\.(conv0|norm0|transition{n}\.(norm|conv)|denseblock{n}\.denselayer{n}\.(norm|conv)"
    r"[12])\.(weight|bias|running_mean|running_var|num_batches_tracked|adaptive_align_weights)"
    r"|backbone\.reductionz{n}\.reduction_z_conv\.weight"
    r"|backbone\.lateral{n}\.(weight|bias)"
    r"|rpn_head\.rpn_(conv|cls|reg)\.(weight|bias)"
    r"|bbox_head\.(fc_cls|fc_reg|shared_fcs\.{n})\.(weight|bias)"
    r"|mask_head\.(convs\.{n}\.conv|upsample|conv_logits)\.(weight|bias)".replace("{n}", NUMBER)
)
MIXING = "adaptive_align_weights"
LAYER = "backbone.denseblock{}.denselayer{}."
LEVELS = (2, 3, 4)  # of the laterals, finest first
ROI_HEAD = "model.roi_head"
MASK_HEAD = f"{ROI_HEAD}.mask_head"
OUR_PARTS = ("neck.", "roi_head.")
# Weights of both are alike in name and shape.
ALIKE = ("align", "tsm")


@dataclass(frozen=True)
class PublishedNetwork:
    """What the weights of a published detector tell about it.

    Attributes:
        families: Networks that have such weights; AlignShift and TSM have the same.
        num_slices: Slices of a stack, D.
        widths: Settings of our config that the weights determine, by path.
    """

    families: tuple[Family, ...]
    num_slices: int
    widths: dict[str, Any]

    def settings(self, family: Family) -> dict[str, Any]:
        """All settings that the weights determine, if they are of one of ``families``."""
        return {
            "model.backbone.type": family.backbone,
            **family.slice_settings(self.num_slices),
            **self.widths,
        }


def unknown_names(state: Iterable[str]) -> list[str]:
    """Names in a state dict that no published detector has, in its order."""
    return [name for name in state if not KNOWN.fullmatch(name)]


def recognize(state: Mapping[str, Tensor]) -> PublishedNetwork:
    """Tell which network a published state dict is of.

    Args:
        state: Published names and tensors, without ``module.``.

    Returns:
        What is told by names and shapes.

    Raises:
        CheckpointError: It is of none; the message names what is unknown or missing.
    """
    if any(name.startswith(OUR_PARTS) for name in state):
        raise CheckpointError("it is one of this project already")
    if unknown := unknown_names(state):
        first = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise CheckpointError(
            f"it is none of a published detector: {len(unknown)} of its {len(state)} weights are "
            f"not known ({first})"
        )
    for name, tensor in state.items():
        if not tensor.numel() or (tensor.ndim == 0 and not name.endswith(IGNORED_SUFFIX)):
            raise CheckpointError(f"{name} must hold weights, got shape {tuple(tensor.shape)}")
    families, num_slices = _operator(state)
    return PublishedNetwork(families, num_slices, {**_trunk(state), **_heads(state)})


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise CheckpointError(f"it is none of a published detector: it has no {name}")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise CheckpointError(f"{name} must have {dimensions} dimensions, got shape {shape}")
    return shape


def _count(state: Mapping[str, Tensor], pattern: str, first: int = 1) -> int:
    """How many numbers stand in names, e.g. of blocks; they go up from ``first`` without gaps."""
    names = {int(m[1]): name for name in state if (m := re.match(pattern, name))}
    for number, name in names.items():
        if not first <= number < first + len(names):
            raise CheckpointError(
                f"{name}: there are {len(names)} of that kind, numbered from {first} without gaps"
            )
    return len(names)


def _operator(state: Mapping[str, Tensor]) -> tuple[tuple[Family, ...], int]:
    """Possible networks and number of slices."""
    channels = _shape(state, "backbone.conv0.weight", 4)[1]
    reduction = "backbone.reductionz1.reduction_z_conv.weight"
    if reduction not in state:
        return (FAMILIES["25d"],), channels
    depth = _shape(state, reduction, 5)[2]
    if any(name.endswith(MIXING) for name in state):
        return (FAMILIES["a3d"],), depth
    return tuple(FAMILIES[name] for name in ALIKE), depth


def _trunk(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Widths of backbone and neck."""
    blocks = _count(state, r"backbone\.denseblock(\d+)\.")
    config = [
        _count(state, rf"backbone\.denseblock{block}\.denselayer(\d+)\.")
        for block in range(1, blocks + 1)
    ]
    growth = _shape(state, LAYER.format(1, 1) + "conv2.weight", 4)[0]
    bottleneck = _shape(state, LAYER.format(1, 1) + "conv1.weight", 4)[0]
    laterals = [_shape(state, f"backbone.lateral{level}.weight", 4) for level in LEVELS]
    return {
        "model.backbone.num_init_features": _shape(state, "backbone.conv0.weight", 4)[0],
        "model.backbone.growth_rate": growth,
        "model.backbone.bn_size": bottleneck // growth,
        "model.backbone.block_config": config,
        "model.neck.in_channels": [shape[1] for shape in laterals],
        "model.neck.out_channels": laterals[0][0],
    }


def _heads(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Widths and classes of the heads."""
    feat_channels, channels = _shape(state, "rpn_head.rpn_conv.weight", 4)[:2]
    fc_out, fc_in = _shape(state, "bbox_head.shared_fcs.0.weight", 2)
    roi_size = math.isqrt(fc_in // channels)
    classes = _shape(state, "bbox_head.fc_cls.weight", 2)[0] - 1
    box = f"{ROI_HEAD}.bbox_head"
    rows = _shape(state, "bbox_head.fc_reg.weight", 2)[0]
    widths = {
        "model.rpn_head.in_channels": channels,
        "model.rpn_head.feat_channels": feat_channels,
        f"{ROI_HEAD}.bbox_roi_extractor.out_channels": channels,
        f"{ROI_HEAD}.bbox_roi_extractor.roi_layer.output_size": roi_size,
        f"{box}.in_channels": channels,
        f"{box}.fc_out_channels": fc_out,
        f"{box}.roi_feat_size": roi_size,
        f"{box}.num_classes": classes,
        f"{box}.reg_class_agnostic": rows == BOX_DELTAS,
    }
    if not any(name.startswith("mask_head.") for name in state):
        return {
            **widths,
            MASK_HEAD: None,
            f"{ROI_HEAD}.mask_roi_extractor": None,
            "model.data_preprocessor.pad_mask": False,
            "train_dataloader.dataset.mask_file": None,
        }
    width, mask_in = _shape(state, "mask_head.convs.0.conv.weight", 4)[:2]
    return {
        **widths,
        f"{ROI_HEAD}.mask_roi_extractor.out_channels": mask_in,
        f"{MASK_HEAD}.num_convs": _count(state, r"mask_head\.convs\.(\d+)\.", first=0),
        f"{MASK_HEAD}.in_channels": mask_in,
        f"{MASK_HEAD}.conv_out_channels": width,
        f"{MASK_HEAD}.num_classes": classes,
        f"{MASK_HEAD}.class_agnostic": _shape(state, "mask_head.conv_logits.weight", 4)[0] == 1,
    }
