"""What the layers of a converted network know of the volume in hand."""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["SliceContext", "SliceFrame"]


class SliceFrame(NamedTuple):
    """One volume on its way through a network whose slices are folded into the batch.

    Attributes:
        batch: Number of stacks N.
        depth: Slices D of each stack.
        thickness: Slice thickness in mm, shape (N,) or (N, 1), or ``None``.
    """

    batch: int
    depth: int
    thickness: Tensor | None


class SliceContext(threading.local):
    """The frame that a converted network is working on, in each thread its own.

    Shared by the network and its converted layers, and by nobody else: networks in one process, or
    inside one another, have a context each. A copy of a network has a new one.
    """

    frame: SliceFrame | None = None
    _scratch: Tensor | None = None

    def __reduce__(self) -> tuple[type[SliceContext], tuple[()]]:
        """Copy and pickle as a new context: a frame is of no use beyond its forward."""
        return type(self), ()

    def enter(self, frame: SliceFrame | None) -> SliceFrame | None:
        """Work on ``frame`` from now on.

        Returns:
            The frame before, to go back to.
        """
        previous = self.frame
        self.frame = frame
        self._scratch = None
        return previous

    def scratch_like(self, x: Tensor) -> Tensor:
        """A tensor of the shape and strides of ``x``, for what is used up within one layer.

        Layers share its memory until the forward ends: taking new memory from the system for every
        layer costs more time than filling it.

        Args:
            x: Dense in channels_last_3d.
        """
        scratch = self._scratch
        if scratch is None or scratch.dtype != x.dtype or scratch.numel() < x.numel():
            scratch = self._scratch = torch.empty(x.numel(), dtype=x.dtype)
        return scratch[: x.numel()].as_strided(x.shape, x.stride())

    def reenter(self, frame: SliceFrame, _gradient: Tensor) -> None:
        """As a hook on an output: work on its frame again while gradients flow back from it.

        Layers that compute their activations again in backward (gradient checkpointing) then find
        the frame of their forward, however many forwards came in between.
        """
        # It stays until the next forward, with the thickness and the scratch memory of one layer.
        # Taken off at the end of backward, it would be missed by a second one, through gradients
        # of `create_graph`, which computes activations again without passing this hook first.
        self.frame = frame

    def frame_of(self, x: Tensor, path: str) -> SliceFrame:
        """The frame in hand, checked against slices folded into the batch.

        Args:
            x: Shape (N * D, C, H, W).
            path: Path of the layer in the network, for messages.

        Raises:
            RuntimeError: If no converted network is running.
            ValueError: If ``x`` does not hold the slices of the frame.
        """
        if self.frame is None:
            raise RuntimeError(
                f"layer {path} of a converted network was called by itself: call the network, "
                "which tells its layers the number of slices and their thickness"
            )
        if x.ndim != 4 or x.shape[0] != self.frame.batch * self.frame.depth:
            raise ValueError(
                f"layer {path} must get slices, (N * D, C, H, W) with N = {self.frame.batch}, "
                f"D = {self.frame.depth}, got {tuple(x.shape)}: the network puts something else "
                f"into its batch there; convert it with skip=[{path!r}]"
            )
        return self.frame
