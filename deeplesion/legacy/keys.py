"""Parameters of the published detectors under today's names, in today's order of classes.

The published code (mmdetection 1.0rc1) had the neck in the backbone, the heads outside the RoI
head, and background as class 0. Today background is the last class, box regression and masks have
none.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

__all__ = ["current_name", "current_tensor"]

# Beginning of a published name, that of today, and what is taken off the number in it; what matches
# none keeps its name.
RENAMES = (
    (r"backbone\.reductionz(\d+)\.reduction_z_conv\.", "neck.collapse.reductions.{0}.", 1),
    (r"backbone\.lateral(\d+)\.", "neck.laterals.{0}.", 2),
    (r"(bbox_head|mask_head)\.", "roi_head.{0}.", None),
)
# A3D convolutions that never mixed slices; their mixing weights touch nothing.
UNUSED = re.compile(r"backbone\.(conv0|transition\d+\.conv)\.adaptive_align_weights$")
FC_CLS = re.compile(r"bbox_head\.fc_cls\.(weight|bias)$")
FC_REG = re.compile(r"bbox_head\.fc_reg\.(weight|bias)$")
MASK_LOGITS = re.compile(r"mask_head\.conv_logits\.(weight|bias)$")
BOX_DELTAS = 4


def current_name(name: str) -> str | None:
    """Today's name of a published parameter.

    Args:
        name: Published name, without the ``module.`` of a wrapped network.

    Returns:
        Today's name, or None for a parameter that never did anything (A3D's mixing weights in the
        stem and the transitions).
    """
    if UNUSED.match(name):
        return None
    for pattern, replacement, first in RENAMES:
        if match := re.match(pattern, name):
            part = match[1] if first is None else int(match[1]) - first
            return replacement.format(part) + name[match.end() :]
    return name


def current_tensor(name: str, tensor: Tensor) -> Tensor:
    """A published parameter with today's classes: background last in scores, nowhere else.

    Args:
        name: Published name.
        tensor: Its value; left unchanged. Class scores ``(1 + K, ...)`` and box deltas
            ``(4 (1 + K), ...)`` have background first, mask logits ``(1 + K, ...)`` too. Deltas and
            masks that are shared by all classes (4 rows, 1 row) have no background.

    Returns:
        Class scores ``(K + 1, ...)``, deltas ``(4 K, ...)``, mask logits ``(K, ...)``; any other
        parameter as it is.
    """
    if FC_CLS.match(name):
        return torch.roll(tensor, -1, dims=0)
    if FC_REG.match(name) and len(tensor) > BOX_DELTAS:
        return tensor[BOX_DELTAS:].clone()
    if MASK_LOGITS.match(name) and len(tensor) > 1:
        return tensor[1:].clone()
    return tensor
