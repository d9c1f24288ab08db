"""Steps that are guarded against numbers gone wrong, and mixed precision on any device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.registry import LOOPS, OPTIM_WRAPPERS
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import TestLoop
from torch import nn

from deeplesion.engine.guarded_step import GuardedStep


@OPTIM_WRAPPERS.register_module()
class GuardedOptimWrapper(GuardedStep):
    """mmengine's ``OptimWrapper`` that skips steps which are not finite.

    See :class:`deeplesion.engine.guarded_step.GuardedStep`; arguments are
    :class:`mmengine.optim.OptimWrapper`'s.
    """


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(GuardedOptimWrapper):
    """Autocast to bfloat16, on the CPU as well as on a GPU; skips steps which are not finite.

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


@OPTIM_WRAPPERS.register_module()
class GuardedAmpOptimWrapper(GuardedStep, AmpOptimWrapper):
    """float16 with a scaled loss, as mmengine's; skips steps which are not finite.

    The scale is halved after a skipped step, as PyTorch does: gradients that are not finite now
    and then are how it finds its scale. Arguments are :class:`mmengine.optim.AmpOptimWrapper`'s.
    """

    def _unscale(self) -> None:
        self.loss_scaler.unscale_(self.optimizer)

    def _loss_scale(self) -> tuple[float | None, bool]:
        if not self.loss_scaler.is_enabled():
            return None, False
        return self.loss_scaler.get_scale(), self._scale_update_param is None

    def _apply(self, **kwargs: Any) -> None:
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update(self._scale_update_param)

    def _drop(self) -> None:
        super()._drop()
        self.loss_scaler.update(self._scale_update_param)


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
