"""The precision in which a kernel computes."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_TYPES = (torch.float16, torch.bfloat16)


def full_precision(x: Tensor) -> Tensor:
    """The tensor itself, or in float32 where it is float16 or bfloat16.

    torchvision's CPU kernels have no float16, and its bfloat16 has no backward.
    """
    return x.float() if x.dtype in HALF_TYPES else x
