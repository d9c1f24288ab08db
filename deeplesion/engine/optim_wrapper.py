"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16, on the CPU as well as on a GPU.

    mmengine's ``AmpOptimWrapper`` refuses a CPU. bfloat16 has float32's range, so nothing is
    scaled. Arguments are :class:`mmengine.optim.OptimWrapper`'s.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast.

        Args:
            model: The model whose parameters tell the device.
        """
        device_type = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device_type, torch.bfloat16):
            yield
