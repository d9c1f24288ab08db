from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmcv.ops import SigmoidFocalLoss, sigmoid_focal_loss

TARGET = torch.tensor([0, 2, 3, 1, 3])  # of three classes: 3 is background


def logits(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Five samples, three classes."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(5, 3, generator=generator, dtype=torch.float64).to(dtype)


def test_by_hand() -> None:
    # Probability 0.5: (1 - p)^2 = 1/4, and ln 2 of cross-entropy.
    loss = sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([1]), 2.0, 0.25, None, "none")
    expected = [0.75 / 4 * math.log(2), 0.25 / 4 * math.log(2)]
    torch.testing.assert_close(loss, torch.tensor([expected]))


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.6), (0.0, 0.5)])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_equals_torchvision(device: str, gamma: float, alpha: float, reduction: str) -> None:
    x, target = logits().to(device).requires_grad_(), TARGET.to(device)
    loss = sigmoid_focal_loss(x, target, gamma, alpha, None, reduction)
    one_hot = F.one_hot(target, 4)[:, :3].double()
    expected = torchvision.ops.sigmoid_focal_loss(x, one_hot, alpha, gamma)
    # mmcv divides by the samples, not by samples times classes.
    expected = {"none": expected, "sum": expected.sum(), "mean": expected.sum() / 5}[reduction]
    torch.testing.assert_close(loss, expected)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)
    torch.testing.assert_close(grad, expected_grad)


def test_gradcheck_with_weights_by_target() -> None:
    weight = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    layer = SigmoidFocalLoss(2.0, 0.25, weight, "none")
    x = logits().requires_grad_()
    plain = sigmoid_focal_loss(x, TARGET, 2.0, 0.25, None, "none")
    factors = torch.tensor([0.5, 3.0, 1.0, 2.0, 1.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(layer(x, TARGET), plain * factors)
    assert torch.autograd.gradcheck(lambda x: layer(x, TARGET), x)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_certain_predictions_stay_finite(gamma: float) -> None:
    x = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.tensor([0, 0]), gamma, 0.25, None, "none")
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([[0.0, 0.0], [0.25 * 200, 0.75 * 200]]))
    torch.testing.assert_close(x.grad, torch.tensor([[0.0, 0.0], [-0.25, 0.75]]))


def test_bfloat16() -> None:
    x = logits(torch.bfloat16).requires_grad_()
    loss = sigmoid_focal_loss(x, TARGET, 2.0, 0.25, None, "none")
    loss.sum().backward()
    expected = sigmoid_focal_loss(x.detach().float(), TARGET, 2.0, 0.25, None, "none")
    assert loss.dtype == x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, expected.bfloat16())
