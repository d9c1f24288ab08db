"""Linear scaling of the learning rate with the number of images that a step learns from."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict


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


def scale_learning_rates(
    optim_wrapper: OptimWrapper | OptimWrapperDict, images: int, base_batch_size: float
) -> float:
    """Scale all learning rates linearly (arXiv 1706.02677).

    Args:
        optim_wrapper: Its optimizers' rates are changed, before a scheduler has seen them.
        images: Images per step: of a batch, times processes, times accumulated batches.
        base_batch_size: Images per step that the rates are given for.

    Returns:
        The factor.

    Raises:
        ValueError: ``base_batch_size`` is not positive.
    """
    if not base_batch_size > 0:
        raise ValueError(f"auto_scale_lr.base_batch_size must be > 0, got {base_batch_size}")
    factor = images / base_batch_size
    for wrapper in _wrappers(optim_wrapper):
        for group in wrapper.optimizer.param_groups:
            group["lr"] *= factor
    return factor


def _wrappers(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[Any]:
    several = isinstance(optim_wrapper, OptimWrapperDict)
    return list(optim_wrapper.values()) if several else [optim_wrapper]
