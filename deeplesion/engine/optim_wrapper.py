"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import LOOPS, OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from mmengine.runner import TestLoop
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


@LOOPS.register_module()
class AutocastTestLoop(TestLoop):
    """Test loop under autocast to a given type; mmengine's own takes float16 on every GPU.

    Args:
        *args: See :class:`mmengine.runner.TestLoop`.
        dtype: ``"bfloat16"`` or ``"float16"``.
        **kwargs: See :class:`mmengine.runner.TestLoop`.
    """

    def __init__(self, *args: Any, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dtype = getattr(torch, dtype)

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Predict and evaluate one batch.

        Args:
            idx: Number of the batch.
            data_batch: From the dataloader.
        """
        self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=data_batch)
        model = self.runner.model
        with torch.autocast(next(model.parameters()).device.type, self.dtype):
            outputs = model.test_step(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        self.runner.call_hook(
            "after_test_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs
        )
