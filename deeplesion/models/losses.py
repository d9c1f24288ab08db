"""The mask loss of the published detectors."""

from __future__ import annotations

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn


def mask_dice_loss(pred: Tensor, target: Tensor, smooth: float = 0.01) -> Tensor:
    """Dice loss of each mask, not squared: ``1 - (2 |P T| + s) / (|P| + |T| + s)``.

    Args:
        pred: Probabilities ``(n, h, w)``.
        target: Targets in 0..1, ``(n, h, w)``.
        smooth: s, keeps empty masks finite.

    Returns:
        ``(n,)``.
    """
    pred, target = pred.flatten(1), target.flatten(1)
    intersection = (pred * target).sum(1)
    return 1 - (2 * intersection + smooth) / (pred.sum(1) + target.sum(1) + smooth)


@MODELS.register_module()
class MaskDiceLoss(nn.Module):
    """Dice loss on the positive RoIs of a mask head, in place of its cross entropy.

    mmdetection's own ``DiceLoss`` takes no labels, so a mask head cannot call it.

    Args:
        smooth: Added to numerator and denominator.
        loss_weight: Factor of the loss.
    """

    def __init__(self, smooth: float = 0.01, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over the RoIs.

        Args:
            pred: Logits ``(n, num_classes, h, w)``.
            target: Targets in 0..1, ``(n, h, w)``.
            labels: Class of each RoI, ``(n,)``.

        Returns:
            A scalar; 0 where there is no RoI.
        """
        if len(pred) == 0:
            return pred.sum() * 0
        chosen = pred[torch.arange(len(pred), device=pred.device), labels]
        losses = mask_dice_loss(chosen.float().sigmoid(), target.float(), self.smooth)
        return self.loss_weight * losses.mean()
