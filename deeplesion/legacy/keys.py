"""Parameters of the published detectors under today's names, in today's order of classes.

The published code (mmdetection 1.0rc1) had the neck in the backbone, the heads outside the RoI
head, and background as class 0. Today background is the last class, box regression and masks have
none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["current_name", "current_state_dict", "current_tensor", "published_name"]

# Published name -> name of today; what matches none keeps its name.
RENAMES = (
    (r"backbone\.reductionz(\d+)\.reduction_z_conv\.", "neck.collapse.reductions.{0}.", 1),
    (r"backbone\.lateral(\d+)\.", "neck.laterals.{0}.", 2),
    (r"(bbox_head|mask_head)\.", "roi_head.{0}.", None),
)
# The way back; numbers of levels are counted from 0 today.
RENAMES_BACK = (
    (r"neck\.collapse\.reductions\.(\d+)\.", "backbone.reductionz{0}.reduction_z_conv.", -1),
    (r"neck\.laterals\.(\d+)\.", "backbone.lateral{0}.", -2),
    (r"roi_head\.(bbox_head|mask_head)\.", "{0}.", None),
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
    return None if UNUSED.match(name) else _renamed(name, RENAMES)


def published_name(name: str) -> str:
    """The published name of one of today's parameters: :func:`current_name` undone."""
    return _renamed(name, RENAMES_BACK)


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


def current_state_dict(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published detector's state dict under today's names, with today's classes.

    Args:
        published: Published names and tensors, without ``module.``.

    Returns:
        Today's names and tensors, in the order of ``published``.
    """
    return {
        current: current_tensor(name, tensor)
        for name, tensor in published.items()
        if (current := current_name(name)) is not None
    }


def _renamed(name: str, renames: tuple[tuple[str, str, int | None], ...]) -> str:
    """Replace the beginning of a name by the first pattern that matches it.

    A number in it is lowered by the last item of the pattern.
    """
    for pattern, replacement, first in renames:
        if match := re.match(pattern, name):
            part = match[1] if first is None else int(match[1]) - first
            return replacement.format(part) + name[match.end() :]
    return name
