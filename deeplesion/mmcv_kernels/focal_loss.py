"""Sigmoid focal loss (arXiv 1708.02002, equation 5) and its derivative, in closed form."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from deeplesion.mmcv_kernels.precision import full_precision


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Loss of every sample and class.

    Args:
        input: Logits ``(n, C)``.
        target: Class index of each sample ``(n,)``; ``C`` is background.
        weight: ``(C,)`` weight of a sample by its target class, or empty. Background weighs 1.
        output: Filled, ``(n, C)``.
        gamma: Exponent that takes weight from easy samples.
        alpha: Weight of the target class, ``1 - alpha`` is that of the others.
    """
    logits = full_precision(input)
    p, log_p, log_not_p = logits.sigmoid(), F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = -alpha * (1 - p) ** gamma * log_p
    negative = -(1 - alpha) * p**gamma * log_not_p
    loss = torch.where(_is_target(target, logits), positive, negative)
    output.copy_(loss * _sample_weight(target, weight, logits))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each loss by its logit; the other parameters are those of the forward.

    Args:
        grad_input: Filled, ``(n, C)``.
    """
    logits = full_precision(input)
    p, log_p, log_not_p = logits.sigmoid(), F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p)
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * log_not_p - p)
    grad = torch.where(_is_target(target, logits), positive, negative)
    grad_input.copy_(grad * _sample_weight(target, weight, logits))


def _is_target(target: Tensor, logits: Tensor) -> Tensor:
    """``(n, C)``, true at the target class of each sample; a row of background has none."""
    return target[:, None] == torch.arange(logits.shape[1], device=logits.device)


def _sample_weight(target: Tensor, weight: Tensor, logits: Tensor) -> Tensor:
    """``(n, 1)`` factor of each sample."""
    if weight.numel() == 0:
        return logits.new_ones(1, 1)
    return torch.cat([weight.to(logits), logits.new_ones(1)])[target][:, None]
