"""Batch norms taken apart, against `nn.BatchNorm2d`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from alignshift.models.stages import NormAtWork, Stage, batch_moments
from alignshift.operators.shift import FoldShift, shift_folds


def norm_and_input(training: bool) -> tuple[nn.BatchNorm2d, Tensor]:
    """A batch norm in float64 with statistics and weights of its own, and images."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5).double().train(training)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert norm.running_var is not None
    norm.running_var.uniform_(0.5, 2)
    return norm, 3 + torch.randn(4, 5, 6, 7, dtype=torch.float64)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_by_hand(layout: torch.memory_format) -> None:
    images = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 1, 2, 2).repeat(3, 2, 1, 1)
    images[:, 1] *= -2
    moments = batch_moments(images.contiguous(memory_format=layout))
    torch.testing.assert_close(moments, torch.tensor([[4.0, -8.0], [5.0, 20.0]]))


def test_moments_of_half_precision_are_wide() -> None:
    images = torch.full((2, 3, 32, 32), 1.0, dtype=torch.bfloat16)
    moments = batch_moments(images)
    assert moments.dtype == torch.float32
    torch.testing.assert_close(moments, torch.tensor([[1.0] * 3, [0.0] * 3]))


@pytest.mark.parametrize("training", [True, False])
def test_is_the_batch_norm(training: bool) -> None:
    norm, images = norm_and_input(training)
    at_work = NormAtWork.of(norm, batch_moments(images), images[:, 0].numel())
    running = [buffer.clone() for buffer in norm.buffers()]

    norm, _ = norm_and_input(training)
    images.requires_grad_()
    expected = norm(images)
    channels = images.detach().movedim(1, -1)
    torch.testing.assert_close(channels * at_work.scale + at_work.shift, expected.movedim(1, -1))
    for actual, wanted in zip(running, norm.buffers(), strict=True):
        torch.testing.assert_close(actual, wanted)

    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [images, norm.weight, norm.bias], grad)
    g = grad.movedim(1, -1)
    sums = torch.stack([g.sum((0, 1, 2)), (g * (channels - at_work.mean)).sum((0, 1, 2))])
    grad_weight, grad_bias, slope, offset = at_work.backward(sums)
    torch.testing.assert_close(grad_weight, wanted[1])
    torch.testing.assert_close(grad_bias, wanted[2])
    torch.testing.assert_close(
        g * at_work.scale + channels * slope + offset, wanted[0].movedim(1, -1)
    )


def test_a_stage_is_norm_relu_and_shift_forward_and_back() -> None:
    norm, _ = norm_and_input(False)
    at_work = NormAtWork.of(norm, torch.empty(2, 5), 1)
    move = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64).view(3, 1, 1, 1, 1)
    stage = Stage(at_work, FoldShift(move, fold=2, zero_padding=False))
    x = torch.randn(3, 4, 2, 2, 5, dtype=torch.float64)
    place = slice(1, 2), slice(4), slice(0, 1)
    out = torch.empty(1, 4, 1, 2, 5, dtype=torch.float64)
    stage.activate(x[place], out, place)
    rectified = (x * at_work.scale + at_work.shift).relu().movedim(-1, 1)
    expected = shift_folds(rectified, move, 2, False).movedim(1, -1)
    torch.testing.assert_close(out, expected[place])
    grad, sums = torch.randn_like(out), torch.zeros(2, 5, dtype=torch.float64)
    before = x.clone().requires_grad_()
    normalized = before * at_work.scale + at_work.shift
    normalized.retain_grad()
    shifted = shift_folds(normalized.relu().movedim(-1, 1), move, 2, False).movedim(1, -1)
    shifted[place].backward(grad)
    stage.backward_(grad, x[place], out, place, sums)
    assert normalized.grad is not None
    torch.testing.assert_close(grad, normalized.grad[place])
    centered = x[place] - at_work.mean
    expected = torch.stack([grad.sum((0, 1, 2, 3)), (grad * centered).sum((0, 1, 2, 3))])
    torch.testing.assert_close(sums, expected)
