"""Gradients of a convolution of slices that leaves them as large as they are."""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stages import Place, fold
from .workspace import Workspace

__all__ = ["SpatialGradient", "keeps_size", "spatial_gradient"]


def keeps_size(conv: nn.Conv2d) -> bool:
    """Whether a convolution gives as many rows and columns as it gets, however many these are."""
    if isinstance(conv.padding, str) or any(step != 1 for step in conv.stride):
        return False
    sides = zip(conv.padding, conv.dilation, conv.kernel_size, strict=True)
    return all(2 * padding == dilation * (size - 1) for padding, dilation, size in sides)


class SpatialGradient(Protocol):
    """Takes a gradient back through a convolution."""

    def of_chunk(self, x: Tensor, place: Place) -> Tensor:
        """The gradient by a chunk of what was convolved; all chunks have to take their turn.

        Args:
            x: The chunk, dense.
            place: Where it lies.

        Returns:
            The same shape; it may be changed, and holds until the next chunk.
        """

    def by_kernel(self) -> Tensor:
        """The gradient by the kernel, once all chunks had their turn."""


def spatial_gradient(
    conv: nn.Conv2d, kernel: Tensor, grad: Tensor, space: Workspace
) -> SpatialGradient:
    """Prepare to take a gradient back.

    Args:
        conv: A convolution that `keeps_size`, of one group, without bias.
        kernel: What it convolved with, (C_out, C, k, k).
        grad: By what it gave, folded: (N * D, C_out, H, W).
        space: Where to work.
    """
    kind = _ByWindows if space.on_cpu else _ByLibrary
    return kind(conv, kernel.to(space.dtype), grad, space)


class _ByWindows:
    """Both gradients as products with a matrix that has a row for each pixel.

    A row holds the gradient in a window around the pixel. On a CPU that is faster than oneDNN,
    which takes three times as long for the gradient by a kernel of few output channels as for the
    convolution itself.
    """

    def __init__(self, conv: nn.Conv2d, kernel: Tensor, grad: Tensor, space: Workspace) -> None:
        self.conv, self.space = conv, space
        vertical, horizontal = cast(tuple[int, int], conv.padding)
        margins = (horizontal, horizontal, vertical, vertical)
        self.framed = F.pad(space.unfold(grad), (0, 0, *margins))
        # Seen from the pixel, what the convolution saw to its right lies to its left.
        self.turned = kernel.flip(2, 3).permute(2, 3, 0, 1)
        self.sums = space.zeros(*self.turned.shape)

    def of_chunk(self, x: Tensor, place: Place) -> Tensor:
        windows = self._windows(place)
        self.sums += (windows.t() @ x.flatten(0, 3)).view_as(self.sums)
        grad = self.space.shared("grad of chunk", x.shape)
        torch.mm(windows, self.turned.flatten(0, 2), out=grad.flatten(0, 3))
        return grad

    def by_kernel(self) -> Tensor:
        return self.sums.permute(2, 3, 0, 1).flip(2, 3)

    def _windows(self, place: Place) -> Tensor:
        """(pixels of a chunk, k * k * C_out)."""
        stacks, slices, rows = place
        height, width = rows.stop - rows.start, self.space.shape[3]
        framed = self.framed[stacks, slices, rows.start :]
        vertical, horizontal = self.conv.dilation
        *outside, line, pixel, channel = framed.stride()
        shape = (*framed.shape[:2], height, width, *self.turned.shape[:3])
        steps = (*outside, line, pixel, vertical * line, horizontal * pixel, channel)
        windows = self.space.shared("windows", shape).copy_(framed.as_strided(shape, steps))
        return windows.flatten(4).flatten(0, 3)


class _ByLibrary:
    """Both gradients by the library of the device, of everything at once."""

    def __init__(self, conv: nn.Conv2d, kernel: Tensor, grad: Tensor, space: Workspace) -> None:
        self.conv, self.kernel, self.grad, self.space = conv, kernel, grad, space
        self.grad_kernel = torch.empty_like(kernel)

    def of_chunk(self, x: Tensor, place: Place) -> Tensor:
        geometry = (self.conv.stride, self.conv.padding, self.conv.dilation, False, (0, 0), 1)
        grad, self.grad_kernel, _ = torch.ops.aten.convolution_backward(
            self.grad, fold(x), self.kernel, None, *geometry, (True, True, False)
        )
        return self.space.unfold(grad.contiguous(memory_format=torch.channels_last))

    def by_kernel(self) -> Tensor:
        return self.grad_kernel
