"""The collapse of the stack and the one-map neck."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deeplesion.models.necks import SliceCollapse, SliceCollapseFPN, collapse_slices


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_collapse_equals_the_3d_convolution(depth: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, depth, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 4, depth, 1, 1, dtype=torch.float64, requires_grad=True)
    ours, reference = collapse_slices(x, weight), F.conv3d(x, weight).squeeze(2)
    torch.testing.assert_close(ours, reference)
    probe = torch.randn_like(ours)
    ours_grads = torch.autograd.grad(ours, (x, weight), probe)
    reference_grads = torch.autograd.grad(reference, (x, weight), probe)
    torch.testing.assert_close(ours_grads, reference_grads)


def test_one_slice_passes_without_parameters() -> None:
    neck = SliceCollapse([4, 8], num_slices=1)
    maps = [torch.randn(1, 4, 1, 8, 8), torch.randn(1, 8, 1, 4, 4)]
    assert not list(neck.parameters())
    assert torch.equal(neck(maps)[1], maps[1][:, :, 0])


def test_wrong_depth_names_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"must have 3 slices .* got 5"):
        SliceCollapse([4], num_slices=3)([torch.zeros(1, 4, 5, 2, 2)])


def test_start_level_drops_finer_levels() -> None:
    neck = SliceCollapse([4, 8], num_slices=3, start_level=1)
    maps = [torch.randn(1, 4, 3, 8, 8), torch.randn(1, 8, 3, 4, 4)]
    assert [tuple(level.shape) for level in neck(maps)] == [(1, 8, 4, 4)]
    assert [tuple(p.shape) for p in neck.parameters()] == [(8, 8, 3, 1, 1)]
    with pytest.raises(ValueError, match="start_level must be one of the 2 levels, got 2"):
        SliceCollapse([4, 8], num_slices=3, start_level=2)


def test_num_slices_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_slices must be >= 1, got 0"):
        SliceCollapse([4], num_slices=0)


def test_fpn_is_laterals_plus_nearest_upsampling() -> None:
    torch.manual_seed(0)
    neck = SliceCollapseFPN([2, 3], out_channels=4, num_slices=3)
    maps = [torch.randn(1, 2, 3, 5, 6), torch.randn(1, 3, 3, 3, 3)]
    flat = [
        F.conv3d(level, reduction.weight).squeeze(2)
        for level, reduction in zip(maps, neck.collapse.reductions, strict=True)
    ]
    coarse = F.interpolate(neck.laterals[1](flat[1]), size=(5, 6), mode="nearest")
    expected = neck.laterals[0](flat[0]) + coarse
    (out,) = neck(maps)
    torch.testing.assert_close(out, expected)
