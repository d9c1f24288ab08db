from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from mmcv.ops import RoIAlign
from torch import Tensor

ROIS = [[0, 1.3, 0.7, 9.1, 8.2], [1, 3.0, 2.5, 6.6, 11.9], [0, -2.0, 4.0, 5.5, 7.0]]


def features(dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Two images, three channels, 12 x 10 px."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 12, 10, generator=generator, dtype=torch.float64).to(device, dtype)


def bilinear(image: Tensor, y: float, x: float) -> float:
    """Value of ``(H, W)`` between its pixels; zero from one pixel outside on."""
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    rows = torch.tensor([1 - (y - top), y - top], dtype=image.dtype)
    columns = torch.tensor([1 - (x - left), x - left], dtype=image.dtype)
    return float(rows @ image[top : top + 2, left : left + 2] @ columns)


def plain_roi_align(
    images: Tensor, roi: list[float], size: int, scale: float, samples: int, aligned: bool
) -> Tensor:
    """RoIAlign of one RoI, sample by sample."""
    image = images[int(roi[0])]
    x1, y1, x2, y2 = (side * scale - (0.5 if aligned else 0.0) for side in roi[1:])
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    out = images.new_zeros(len(image), size, size)
    steps = [(i + 0.5) / samples for i in range(samples)]
    for channel, row, column in np.ndindex(*out.shape):
        values = [
            bilinear(
                image[channel],
                y1 + (row + dy) * height / size,
                x1 + (column + dx) * width / size,
            )
            for dy in steps
            for dx in steps
        ]
        out[channel, row, column] = sum(values) / len(values)
    return out


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("scale", "samples"), [(1.0, 1), (1.0, 2), (0.5, 3)])
def test_equals_sampling_one_by_one(device: str, aligned: bool, scale: float, samples: int) -> None:
    images = features(torch.float64)
    layer = RoIAlign(3, scale, samples, "avg", aligned)
    out = layer(images.to(device), torch.tensor(ROIS, dtype=torch.float64, device=device))
    expected = [plain_roi_align(images, roi, 3, scale, samples, aligned) for roi in ROIS]
    torch.testing.assert_close(out.cpu(), torch.stack(expected))


def test_by_hand() -> None:
    # A ramp along x: the mean over a bin is the value at its center.
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    roi = torch.tensor([[0.0, 2, 2, 6, 6]])
    assert RoIAlign(2, aligned=False)(ramp, roi)[0, 0].tolist() == [[3, 5], [3, 5]]
    assert RoIAlign(2, aligned=True)(ramp, roi)[0, 0].tolist() == [[2.5, 4.5], [2.5, 4.5]]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
def test_equals_torchvision(device: str, aligned: bool, samples: int) -> None:
    images, rois = features(device=device).requires_grad_(), torch.tensor(ROIS, device=device)
    out = RoIAlign((4, 2), 0.5, samples, "avg", aligned)(images, rois)
    weights = torch.linspace(-1, 1, out.numel(), device=device).view_as(out)
    (grad,) = torch.autograd.grad((out * weights).sum(), images)
    expected = torchvision.ops.roi_align(images, rois, (4, 2), 0.5, samples, aligned)
    (expected_grad,) = torch.autograd.grad((expected * weights).sum(), images)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("aligned", [True, False])
def test_gradcheck(aligned: bool) -> None:
    rois = torch.tensor(ROIS, dtype=torch.float64)
    layer = RoIAlign(2, 0.75, 2, "avg", aligned)
    images = features(torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layer(x, rois), images, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(device: str, dtype: torch.dtype) -> None:
    images = features(dtype, device).requires_grad_()
    rois, layer = torch.tensor(ROIS, device=device), RoIAlign(3, sampling_ratio=2)
    out = layer(images, rois)
    out.sum().backward()
    exact = images.detach().float().requires_grad_()
    expected = layer(exact, rois)
    expected.sum().backward()
    assert out.dtype == images.grad.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype))
    torch.testing.assert_close(images.grad, exact.grad.to(dtype))


def test_memory_format_and_no_rois() -> None:
    images, rois, layer = features(), torch.tensor(ROIS), RoIAlign(3, sampling_ratio=2)
    out = layer(images.to(memory_format=torch.channels_last), rois)
    torch.testing.assert_close(out, layer(images, rois))
    images.requires_grad_()
    layer(images, torch.zeros(0, 5)).sum().backward()
    assert not images.grad.any()


def test_max_mode_is_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*pool_mode='avg'"):
        RoIAlign(2, pool_mode="max")(features(), torch.tensor(ROIS))


@pytest.mark.parametrize("size", [7, 14])
def test_equals_the_published_code(goldens: Path, size: int) -> None:
    with np.load(goldens / "legacy_ops.npz") as cases:
        names = ("roi_feat", "roi_rois", f"roi_out{size}", f"roi_gout{size}", f"roi_gfeat{size}")
        feat, rois, out, grad_out, grad = (torch.from_numpy(cases[name]) for name in names)
    feat.requires_grad_()
    # The +1 convention at stride 4 in today's terms.
    moved = rois + torch.tensor([0.0, 2, 2, 3, 3])
    result = RoIAlign(size, 1 / 4, 2, "avg", aligned=True)(feat, moved)
    result.backward(grad_out)
    torch.testing.assert_close(result, out, atol=2e-5, rtol=0)
    torch.testing.assert_close(feat.grad, grad, atol=2e-5, rtol=0)
