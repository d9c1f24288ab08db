"""The kernels are tested through ``mmcv.ops``, as mmdetection calls them."""

from __future__ import annotations

import pytest
import torch

from deeplesion.mmcv_ops import install

install()


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """Every device there is."""
    return request.param
