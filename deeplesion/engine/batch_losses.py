"""Losses of the whole batch, that of all processes, for whatever logs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor


def mean_over_processes(values: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Means of numbers over all processes, each of which must call this.

    What only some have, for a process may be without RoIs or have lost what was not finite, is the
    mean of theirs. So names are exchanged with the numbers: sums of vectors would add up what does
    not belong together, or wait for ever.

    Args:
        values: A number, or a tensor of one, by name.

    Returns:
        The same numbers on every process.
    """
    own = dict(zip(values, _numbers(list(values.values())), strict=True))
    parts: list[dict[str, float]] = all_gather_object(own)
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: fmean(part[name] for part in parts if name in part) for name in names}


def _numbers(values: Sequence[Tensor | float]) -> list[float]:
    """Numbers that come off their device together."""
    tensors = [torch.as_tensor(value).detach().double().reshape(()) for value in values]
    if not tensors:
        return []
    device = next((t.device for t in tensors if t.device.type != "cpu"), torch.device("cpu"))
    numbers: list[float] = torch.stack([tensor.to(device) for tensor in tensors]).tolist()
    return numbers


@HOOKS.register_module()
class BatchLossHook(RuntimeInfoHook):
    """mmengine's ``RuntimeInfoHook`` that has the losses of all processes logged.

    mmengine's logs those of the first process, the losses of its part of the batch. Here each is
    the mean over the processes: that of the whole batch, for the heads of this project divide by
    means over the processes.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note the losses of an iteration for the logs.

        Args:
            runner: The runner.
            batch_idx: Number of the batch.
            data_batch: Not used.
            outputs: Of this process; they stay as they are.
        """
        if outputs is not None and get_world_size() > 1:
            outputs = mean_over_processes(outputs)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
