"""What operators are given must be tensors of the right shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alignshift.operators.checks import check_thickness, check_volume

X = torch.zeros(2, 4, 3, 5, 5)


def test_what_fits_passes() -> None:
    check_volume(X)
    check_volume(X, 4)
    check_volume(X, 1, 4)
    for thickness in (None, torch.ones(2), torch.ones(2, 1, dtype=torch.float16)):
        check_thickness(thickness, X)


@pytest.mark.parametrize(
    ("x", "channels", "error", "message"),
    [
        (X.numpy(), (), TypeError, "x must be a tensor of shape .* got a ndarray: torch.as_tensor"),
        ([1.0], (), TypeError, "x must be a tensor .* got a list"),
        (X[0], (), ValueError, r"x must be of shape \(N, C, D, H, W\), got \(4, 3, 5, 5\)"),
        (X, (3,), ValueError, r"x must have 3 channels .* got shape \(2, 4, 3, 5, 5\)"),
        (X, (1, 3), ValueError, r"x must have 1 or 3 channels .* got shape \(2, 4, 3, 5, 5\)"),
    ],
    ids=str,
)
def test_volumes_that_do_not_fit(
    x: Any, channels: tuple[int, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_volume(x, *channels)


@pytest.mark.parametrize(
    "thickness", [2.0, [1.0, 5.0], torch.ones(2).numpy()], ids=["number", "list", "array"]
)
def test_a_thickness_that_is_no_tensor(thickness: Any) -> None:
    kind = type(thickness).__name__
    with pytest.raises(TypeError, match=rf"thickness must be a tensor .* got a {kind}: .* the 2"):
        check_thickness(thickness, X)
