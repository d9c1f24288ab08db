"""float16 on a CPU, where mmengine refuses it: for comparing precisions, not for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import Tensor, nn


@OPTIM_WRAPPERS.register_module()
class CPUFloat16OptimWrapper(OptimWrapper):
    """Autocast to float16 with a scaled loss, as ``AmpOptimWrapper`` does it on a GPU.

    Arguments are :class:`mmengine.optim.OptimWrapper`'s.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scaler = torch.amp.GradScaler("cpu")

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast."""
        with super().optim_context(model), torch.autocast("cpu", torch.float16):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Make a step unless a gradient is not finite, whereupon the scale is halved."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()
