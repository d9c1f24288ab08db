"""The batch that a detector hands to its backbone."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class CTInputs(NamedTuple):
    """A batch of CT slice stacks and how thick their slices are.

    Stock mmdetection detectors pass their ``batch_inputs`` to the backbone and look at nothing else
    in them, so handing them this tuple makes every one of them thickness-aware without a subclass.

    Attributes:
        volume: Windowed slices ``(N, 1, D, H, W)``, D from top to bottom as stored.
        thickness: Distance between the slices of each stack in mm, ``(N,)``; NaN where unknown.
    """

    volume: Tensor
    thickness: Tensor
