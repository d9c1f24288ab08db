"""The learning rate at another batch size, for optimizers that divide by the gradient's size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import optim

#: Optimizers whose steps do not grow with the gradient.
ADAPTIVE = (optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam, optim.Adagrad, optim.RMSprop)


@contextmanager
def by_square_root(wrapper: OptimWrapper | OptimWrapperDict) -> Iterator[None]:
    """Make of a linear change of learning rates, within the context, one by the square root.

    That is the rule for optimizers of Adam's kind: S. Malladi et al., "On the SDEs and Scaling
    Rules for Adaptive Gradient Algorithms", NeurIPS 2022 (arXiv 2205.10287). For SGD, whose rule
    is linear (P. Goyal et al., arXiv 1706.02677), nothing is done.

    Args:
        wrapper: Of one optimizer or several; ``lr`` of their groups are changed in place.
    """
    several = isinstance(wrapper, OptimWrapperDict)
    optimizers = [one.optimizer for one in (wrapper.values() if several else [wrapper])]
    adaptive = [optimizer for optimizer in optimizers if isinstance(optimizer, ADAPTIVE)]
    groups = [group for optimizer in adaptive for group in optimizer.param_groups]
    before = [group["lr"] for group in groups]
    yield
    for group, rate in zip(groups, before, strict=True):
        group["lr"] = math.sqrt(rate * group["lr"])
    if groups and before[0] and groups[0]["lr"] != before[0]:
        print_log(
            f"{type(adaptive[0]).__name__}'s is scaled by the square root of that: "
            f"{groups[0]['lr'] / before[0]:.4g}",
            logger="current",
        )
