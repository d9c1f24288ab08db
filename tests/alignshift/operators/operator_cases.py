"""What the tests of all operators share: how each is built, and inputs for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alignshift.operators import SliceConv, get_operator

DEPTH = 3
OPERATOR_KWARGS: dict[str, dict[str, Any]] = {
    "SliceConv": {},
    "AlignShiftConv": {"n_fold": 4},
    "TSMConv": {"n_fold": 4},
    "A3DConv": {"dimension": DEPTH},
    "ACSConv": {},
    "I3DConv": {"inflate": "center"},
}
THICKNESS = torch.tensor([1.0, 5.0])
every_operator = pytest.mark.parametrize("name", list(OPERATOR_KWARGS))


def make(name: str, *args: Any, **kwargs: Any) -> SliceConv:
    """An operator with 8 channels in, 4 out and a 3x3 kernel unless told otherwise."""
    torch.manual_seed(0)
    settings = {"padding": 1, **OPERATOR_KWARGS[name], **kwargs}
    return get_operator(name)(*(args or (8, 4, 3)), **settings)


def make_for_depth(name: str, depth: int, **kwargs: Any) -> SliceConv:
    """An operator for stacks of ``depth`` slices."""
    return make(name, **({"dimension": depth} if name == "A3DConv" else {}), **kwargs)


def volume(batch: int = 2, channels: int = 8, depth: int = DEPTH, size: int = 6) -> Tensor:
    """Seeded noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, depth, size, size, generator=generator)


def column(*channels: list[float]) -> Tensor:
    """Volume (1, C, D, 1, 1) from the slices of each channel."""
    return torch.tensor(channels)[None, :, :, None, None]
