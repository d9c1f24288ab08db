"""Exponential moving average of the weights, on which checkpoints are evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce_params
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.runner.loops import BaseLoop

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.guarded_step import GuardedStep


@HOOKS.register_module()
class WeightAverageHook(EMAHook):
    """mmengine's ``EMAHook``, the same in every process and at work in training alone.

    While training, validation sees the average, and a checkpoint holds it as ``state_dict``: what
    loads a checkpoint (``tools/test.py``, ``tools/detect.py``, another framework) gets the average
    and need not know of it. What training goes on from is kept beside it, as ``ema_state_dict``,
    where the checkpoint is one to resume from; the best one, which is not, is spared it.

    Four things are not mmengine's. The running statistics of batch norms are averaged too
    (``update_buffers=True``), as those of the last few batches do not fit averaged weights, and
    over processes at each update, so that all evaluate, save and resume the same network. A
    checkpoint to test goes past this hook: mmengine's reads it a second time by its own rules,
    and evaluates random weights where those find other names. Where no training begins, no
    copy of the network is made. And a step that was skipped does not count.

    Args:
        ema_type: By default the average is over about the last ``1 / gamma`` of the iterations so
            far, so it suits short and long runs alike, until ``momentum`` is reached.
        momentum: Least share of the newest weights.
        update_buffers: Whether buffers are averaged, too.
        **kwargs: See :class:`mmengine.hooks.EMAHook`; ``gamma`` is one.
    """

    def __init__(
        self,
        ema_type: str = "MomentumAnnealingEMA",
        momentum: float = 0.0002,
        update_buffers: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(ema_type, momentum=momentum, update_buffers=update_buffers, **kwargs)
        self._averages = False

    def before_run(self, runner: Runner) -> None:
        """Copy the network where a training begins."""
        if not self._averages and isinstance(runner._train_loop, BaseLoop):
            super().before_run(runner)
            self._averages = True

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Add the weights after an iteration to the average, unless its step was skipped."""
        wrapper = runner.optim_wrapper
        # In the middle of a step weights are as before, and buffers not yet known to be sound.
        if isinstance(wrapper, GuardedStep) and (wrapper.is_accumulating or wrapper.skipped):
            return
        super().after_train_iter(runner, *args, **kwargs)
        if self.ema_model.update_buffers:
            buffers = self.ema_model.module.buffers()
            all_reduce_params([b for b in buffers if b.is_floating_point()], op="mean")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the average as the weights, and the weights beside it."""
        super().before_save_checkpoint(runner, checkpoint)
        checkpoint["state_dict"] = _on_cpu(checkpoint["state_dict"])
        if "optimizer" in checkpoint:
            checkpoint["ema_state_dict"] = _on_cpu(checkpoint["ema_state_dict"])
        else:
            del checkpoint["ema_state_dict"]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the average up where a training is resumed."""
        if self._averages and runner._resume:
            super().after_load_checkpoint(runner, checkpoint)

    def _swap_ema_parameters(self) -> None:
        if self._averages:
            super()._swap_ema_parameters()


def check_average(filename: str, checkpoint: Mapping[str, Any], hooks: Iterable[Hook]) -> None:
    """Refuse to go on from averaged weights as if they were the newest.

    Args:
        filename: For the message.
        checkpoint: What is to be resumed.
        hooks: Those of the Runner.

    Raises:
        CheckpointError: It holds an average, and no hook takes that up.
    """
    if "ema_state_dict" in checkpoint and not any(isinstance(hook, EMAHook) for hook in hooks):
        raise CheckpointError(
            f"checkpoint {filename} is of a training that averages its weights: to resume it, have "
            'dict(type="WeightAverageHook") in custom_hooks, as its config had'
        )


def _on_cpu(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The dict itself, its tensors on the CPU."""
    for name, value in state_dict.items():
        state_dict[name] = value.cpu() if isinstance(value, torch.Tensor) else value
    return state_dict
