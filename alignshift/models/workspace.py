"""The memory that one pass through a dense block works in; volumes are laid out (N, D, H, W, C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .stages import Place

__all__ = ["Workspace"]

#: Bytes of a chunk on a CPU: some such fit into its cache.
CHUNK_BYTES = 4 << 20


class Workspace:
    """Volumes of one shape, chunks of them, and memory that layers and chunks share.

    Args:
        x: Folded slices (N * D, C, H, W).
        depth: Slices D of a stack.
    """

    def __init__(self, x: Tensor, depth: int) -> None:
        self.shape = (x.shape[0] // max(depth, 1), depth, *x.shape[2:])
        self.dtype, self.device, self.on_cpu = x.dtype, x.device, x.is_cpu
        self.wide = torch.promote_types(x.dtype, torch.float32)
        self.memory: dict[str, Tensor] = {}

    def chunks(self, channels: int) -> Iterator[Place]:
        """Some rows of all slices of a stack at a time; on other devices than a CPU all at once.

        Args:
            channels: Of what shall fit into the cache.
        """
        batch, depth, height, width = self.shape
        if not self.on_cpu:
            yield slice(batch), slice(depth), slice(height)
            return
        row = max(depth * width * channels * self.dtype.itemsize, 1)
        rows = max(CHUNK_BYTES // row, 1)
        stacks = max(rows // max(height, 1), 1)
        for index in range(0, batch, stacks):
            for start in range(0, height, rows):
                some = slice(index, min(index + stacks, batch))
                yield some, slice(depth), slice(start, min(start + rows, height))

    def unfold(self, images: Tensor) -> Tensor:
        """(N * D, C, H, W) -> (N, D, H, W, C)."""
        return images.movedim(1, -1).view(*self.shape, images.shape[1])

    def dense(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor itself if it is dense, else memory of its shape."""
        return tensor if tensor.is_contiguous() else self.shared(name, tensor.shape)

    def clear(self) -> None:
        """Forget the memory that is shared."""
        self.memory.clear()

    def zeros(self, *shape: int) -> Tensor:
        """Zeros to sum up in, of at least float32."""
        return torch.zeros(shape, dtype=self.wide, device=self.device)

    def volume(self, channels: int) -> Tensor:
        """A volume of undefined content."""
        return torch.empty(*self.shape, channels, dtype=self.dtype, device=self.device)

    def shared_volume(self, name: str, channels: int) -> Tensor:
        """A volume of undefined content that all who ask for this name share."""
        return self.shared(name, (*self.shape, channels))

    def shared(self, name: str, shape: Sequence[int]) -> Tensor:
        """A dense tensor of undefined content that all who ask for this name share."""
        size = torch.Size(shape).numel()
        memory = self.memory.get(name)
        if memory is None or memory.numel() < size:
            memory = torch.empty(size, dtype=self.dtype, device=self.device)
            self.memory[name] = memory
        return memory[:size].view(*shape)
