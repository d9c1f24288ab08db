"""Scaling of the learning rate with the number of images that a step learns from."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import optim

#: Optimizers that divide by the size of the gradient: their steps do not grow with it.
ADAPTIVE = (optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adagrad, optim.RMSprop)


def accumulation_of(optim_wrapper: OptimWrapper | OptimWrapperDict) -> int:
    """Over how many batches gradients are summed up before a step (``accumulative_counts``).

    Args:
        optim_wrapper: Of one optimizer, or of several that agree.

    Raises:
        ValueError: They do not agree, so that there is no one number of images per step.
    """
    counts = {wrapper._accumulative_counts for wrapper in _wrappers(optim_wrapper)}
    if len(counts) > 1:
        raise ValueError(f"accumulative_counts must be the same everywhere, got {sorted(counts)}")
    return counts.pop()


def scaling_factor(images: int, base_batch_size: float, adaptive: bool) -> float:
    """What to multiply a learning rate by.

    Linearly (P. Goyal et al., arXiv 1706.02677), but by the square root for optimizers of Adam's
    kind (S. Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms",
    NeurIPS 2022, arXiv 2205.10287).

    Args:
        images: Images per step.
        base_batch_size: Images per step that the rate is given for.
        adaptive: Whether the optimizer is one of :data:`ADAPTIVE`.
    """
    ratio = images / base_batch_size
    return math.sqrt(ratio) if adaptive else ratio


def scale_learning_rates(
    optim_wrapper: OptimWrapper | OptimWrapperDict, images: int, base_batch_size: float
) -> float:
    """Scale all learning rates by :func:`scaling_factor`.

    Args:
        optim_wrapper: Its optimizers' rates are changed, before a scheduler has seen them.
        images: Images per step: of a batch, times processes, times accumulated batches.
        base_batch_size: Images per step that the rates are given for.

    Returns:
        The factor; of several optimizers the last one's.

    Raises:
        ValueError: ``base_batch_size`` is not positive.
    """
    if not base_batch_size > 0:
        raise ValueError(f"auto_scale_lr.base_batch_size must be > 0, got {base_batch_size}")
    for wrapper in _wrappers(optim_wrapper):
        factor = scaling_factor(images, base_batch_size, isinstance(wrapper.optimizer, ADAPTIVE))
        for group in wrapper.optimizer.param_groups:
            group["lr"] *= factor
    return factor


def _wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[Any]:
    several = isinstance(optim_wrapper, OptimWrapperDict)
    return list(optim_wrapper.values()) if several else [optim_wrapper]
