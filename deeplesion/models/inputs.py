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


class StemInputs(NamedTuple):
    """A batch of stacks whose slices have been through the backbone's stem.

    A stem that works on each slice alone need see a slice only once, however many stacks it is
    in. Backbones with ``slicewise_stem`` take this tuple wherever they take :class:`CTInputs`.

    Attributes:
        stem: ``(N, C, D, H / 4, W / 4)``, of the backbone's ``forward_stem``.
        thickness: As in :class:`CTInputs`.
    """

    stem: Tensor
    thickness: Tensor


def check_num_slices(volume: Tensor, num_slices: int, part: str) -> None:
    """Check that a stack is as deep as a network was built for.

    Args:
        volume: ``(N, C, D, H, W)``.
        num_slices: What D should be.
        part: What of the model wants it, for the message.

    Raises:
        ValueError: D is another.
    """
    if volume.shape[2] != num_slices:
        raise ValueError(
            f"volume must have {num_slices} slices (num_slices of the {part}), "
            f"got {volume.shape[2]}: set the same num_slices in LoadCTSlices"
        )
