"""A 2D network at work on volumes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from alignshift.operators.checks import check_thickness, check_volume
from alignshift.operators.context import SliceContext, SliceFrame
from alignshift.operators.folding import fold_slices

from .outputs import map_tensors
from .report import ConversionReport

__all__ = ["SliceNetwork"]

# The attribute that holds the 2D network, and its prefix in names of parameters.
INNER = "model."


class SliceNetwork(nn.Module):
    """A converted 2D network: takes a volume and its thickness, works on all slices at once.

    Slices are folded into the batch, so that every layer and every line of the network's own
    ``forward`` does to a slice what it did to an image; the converted convolutions alone unfold
    them, exchange information between them, and fold them again. Names in the state dict are those
    of the 2D network. `convert_to_3d` makes one.

    Args:
        model: The 2D network, with converted layers.
        context: The context that those layers share.
        report: What was converted.
        in_channels: Channels that the volume must have, any number where ``None``.
        expand_channels: Where the network's first convolution could not be adapted, a volume of one
            channel is repeated to so many; it may as well have them.

    Attributes:
        model: The 2D network.
        report: What was converted.
    """

    def __init__(
        self,
        model: nn.Module,
        context: SliceContext,
        report: ConversionReport,
        in_channels: int | None = None,
        expand_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.context = context
        self.report = report
        self.in_channels = in_channels
        self.expand_channels = expand_channels
        # The flag alone: what is frozen inside stays in the mode that it is in.
        self.training = model.training
        self.register_state_dict_post_hook(_to_2d_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_2d_names)  # type: ignore[no-untyped-call]

    def forward(
        self, volume: Tensor, thickness: Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Run the network on every slice.

        Args:
            volume: Shape (N, C, D, H, W), slices from top to bottom.
            thickness: Slice thickness in mm, shape (N,) or (N, 1), for operators that use it.
            *args: Further arguments of the 2D network, as it takes them: a tensor with a row for
                each image has one for each slice, (N * D, ...), stack after stack.
            **kwargs: The same, by name.

        Returns:
            What the 2D network returns, with slices as the third axis of every tensor: maps
            (N, C, D, H, W), logits (N, K, D), tokens (N, L, D, C). Scalars are left alone.

        Raises:
            ValueError: If a shape does not fit, or the network's output does not keep the slices
                apart in its first axis.
            TypeError: If volume or thickness is no tensor, or the network returns tensors inside an
                object that is no list, tuple, mapping or dataclass.
        """
        accepted = (self.in_channels, self.expand_channels)
        check_volume(volume, *(channels for channels in accepted if channels is not None))
        check_thickness(thickness, volume)
        frame = SliceFrame(volume.shape[0], volume.shape[2], thickness)
        if self.expand_channels:
            volume = volume.expand(-1, self.expand_channels, -1, -1, -1)
        previous = self.context.enter(frame)
        try:
            out = self.model(fold_slices(volume), *args, **kwargs)
        finally:
            self.context.enter(previous)
        return map_tensors(out, partial(self._unfold, frame))

    def _unfold(self, frame: SliceFrame, out: Tensor) -> Tensor:
        if out.ndim == 0:
            return out
        if out.shape[0] != frame.batch * frame.depth:
            raise ValueError(
                "the converted network must keep the slices apart in the first axis of what it "
                f"returns, N * D = {frame.batch * frame.depth}, got {tuple(out.shape)}"
            )
        if out.requires_grad and not torch.compiler.is_compiling():
            # For layers that compute their activations again in backward.
            out.register_hook(partial(self.context.reenter, frame))  # type: ignore[no-untyped-call]
        unfolded = out.view(frame.batch, frame.depth, *out.shape[1:])
        return unfolded.movedim(1, 2) if out.ndim > 1 else unfolded


def _to_2d_names(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, _metadata: Any
) -> None:
    """Take the name of the attribute that holds the 2D network off the names."""
    inner = prefix + INNER
    for name in [name for name in state_dict if name.startswith(inner)]:
        state_dict[prefix + name.removeprefix(inner)] = state_dict.pop(name)


def _from_2d_names(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Undo `_to_2d_names` before loading."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + INNER + name.removeprefix(prefix)] = state_dict.pop(name)
