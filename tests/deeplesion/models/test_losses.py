"""The Dice loss of masks."""

from __future__ import annotations

import pytest
import torch

from deeplesion.models.losses import MaskDiceLoss, mask_dice_loss


def test_hand_computed() -> None:
    pred = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    # 2 * 1.5 over 1.5 + 2, each with the smoothing of 0.01
    assert mask_dice_loss(pred, target).item() == pytest.approx(1 - 3.01 / 3.51)


def test_limits() -> None:
    mask = torch.ones(2, 4, 4)
    assert mask_dice_loss(mask, mask).tolist() == pytest.approx([0, 0])
    assert mask_dice_loss(0 * mask, 0 * mask).tolist() == pytest.approx([0, 0])
    assert mask_dice_loss(mask, 0 * mask)[0].item() == pytest.approx(1, abs=1e-3)


def test_takes_the_channel_of_the_label_and_averages_over_rois() -> None:
    logits = torch.full((2, 3, 2, 2), -50.0)
    logits[0, 1] = logits[1, 2] = 50.0
    target = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    loss = MaskDiceLoss(loss_weight=2.0)(logits, target, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(2.0 * (0 + 1 - 0.01 / 4.01) / 2, abs=1e-5)


def test_no_roi_is_zero_with_a_gradient() -> None:
    logits = torch.zeros(0, 1, 4, 4, requires_grad=True)
    loss = MaskDiceLoss()(logits, torch.zeros(0, 4, 4), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


def test_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: mask_dice_loss(x.sigmoid()[:, 0], target), (logits,))
