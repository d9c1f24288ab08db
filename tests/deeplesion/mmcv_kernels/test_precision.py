from __future__ import annotations

import pytest
import torch

from deeplesion.mmcv_kernels.precision import full_precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_becomes_float32(dtype: torch.dtype) -> None:
    assert full_precision(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_precision_is_passed_through(dtype: torch.dtype) -> None:
    x = torch.ones(2, dtype=dtype)
    assert full_precision(x) is x
