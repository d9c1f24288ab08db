from __future__ import annotations

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor

# Another number in every place, so that no two can be mistaken for each other.
SHAPES = torch.tensor([[5, 7], [3, 4], [1, 2]])
NUM_KEYS = 35 + 12 + 2
BATCH, QUERIES, HEADS, CHANNELS, POINTS = 2, 6, 4, 8, 5
Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Inputs:
    """Values, points (some beyond the edges) and weights."""
    generator = torch.Generator().manual_seed(0)
    looks = (BATCH, QUERIES, HEADS, len(SHAPES), POINTS)
    value = torch.randn(BATCH, NUM_KEYS, HEADS, CHANNELS, generator=generator)
    points = 1.4 * torch.rand(*looks, 2, generator=generator) - 0.2
    weights = torch.randn(looks, generator=generator)
    tensors = (tensor.to(device, dtype).requires_grad_() for tensor in (value, points, weights))
    return tuple(tensors)  # type: ignore[return-value]


def attend(
    value: Tensor, points: Tensor, weights: Tensor, shapes: Tensor = SHAPES, im2col_step: int = 64
) -> Tensor:
    """The operator, as mmcv calls it."""
    shapes = shapes.to(value.device)
    sizes = shapes.prod(1)
    start = sizes.cumsum(0) - sizes
    return MultiScaleDeformableAttnFunction.apply(
        value, shapes, start, points, weights, im2col_step
    )


def test_by_hand() -> None:
    # One query, one head, one channel; a level of 2 x 2 pixels and one of a single pixel.
    value = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0]).view(1, 5, 1, 1)
    points = torch.tensor(
        [
            [[0.25, 0.25], [0.75, 0.25], [0.5, 0.75]],  # 1; 2; halfway from 3 to 4
            [[0.5, 0.5], [0.0, 0.5], [5.0, 5.0]],  # 10; half beyond the edge: 5; beyond: 0
        ]
    ).view(1, 1, 1, 2, 3, 2)
    weights = torch.tensor([[1.0, 10.0, 2.0], [100.0, 1.0, 7.0]]).view(1, 1, 1, 2, 3)
    out = attend(value, points, weights, torch.tensor([[2, 2], [1, 1]]))
    torch.testing.assert_close(out, torch.tensor([[[1.0 + 20 + 7 + 1000 + 5]]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference_of_mmcv(device: str, dtype: torch.dtype) -> None:
    tensors = inputs(dtype, device)
    out = attend(*tensors)
    value, points, weights = tensors
    expected = multi_scale_deformable_attn_pytorch(value, SHAPES, points, weights)
    assert out.shape == (BATCH, QUERIES, HEADS * CHANNELS)
    torch.testing.assert_close(out, expected)
    grad = torch.linspace(-1, 1, out.numel(), dtype=dtype, device=device).view_as(out)
    grads = torch.autograd.grad(out, tensors, grad)
    for got, wanted in zip(grads, torch.autograd.grad(expected, tensors, grad), strict=True):
        torch.testing.assert_close(got, wanted)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(attend, inputs(), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(device: str, dtype: torch.dtype) -> None:
    tensors = inputs(dtype, device)
    out = attend(*tensors)
    grads = torch.autograd.grad(out.sum(), tensors)
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors]
    expected = attend(*exact)
    assert torch.equal(out, expected.to(dtype))
    for got, wanted in zip(grads, torch.autograd.grad(expected.sum(), exact), strict=True):
        assert torch.equal(got, wanted.to(dtype))


def test_mixed_precision_takes_points_in_float32(device: str) -> None:
    value, points, weights = inputs(torch.float32, device)
    out = attend(value.half(), points, weights)
    out.float().sum().backward()
    assert out.dtype == torch.float16
    assert points.grad is not None
    assert points.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), attend(value, points, weights), atol=0.05, rtol=0.05)


def test_the_batch_need_not_be_a_multiple_of_the_step(device: str) -> None:
    tensors = inputs(torch.float32, device)
    three = [torch.cat([tensor, tensor[:1]]) for tensor in tensors]
    torch.testing.assert_close(attend(*three, im2col_step=2)[:2], attend(*tensors))


@pytest.mark.parametrize(("batch", "queries"), [(0, QUERIES), (BATCH, 0)])
def test_nothing_to_attend(device: str, batch: int, queries: int) -> None:
    value, points, weights = inputs(torch.float32, device)
    out = attend(value[:batch], points[:batch, :queries], weights[:batch, :queries])
    assert out.shape == (batch, queries, HEADS * CHANNELS)
    out.sum().backward()
    assert value.grad is not None
    assert value.grad.count_nonzero() == 0


def test_levels_must_hold_all_keys() -> None:
    with pytest.raises(RuntimeError, match="49"):
        attend(*inputs(), shapes=SHAPES + 1)


def layer_output(layer: MultiScaleDeformableAttention, device: str) -> Tensor:
    """The layer's output for fixed queries, with its own points and weights."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(BATCH, NUM_KEYS, HEADS * CHANNELS, generator=generator)
    reference = torch.rand(BATCH, NUM_KEYS, len(SHAPES), 2, generator=generator)
    return layer.to(device)(
        query.to(device),
        reference_points=reference.to(device),
        spatial_shapes=SHAPES.to(device),
        level_start_index=torch.tensor([0, 35, 47], device=device),
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_layer_of_mmcv_is_the_same_everywhere(device: str, autocast: bool) -> None:
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(
        HEADS * CHANNELS, HEADS, len(SHAPES), dropout=0.0, batch_first=True
    )
    torch.nn.init.normal_(layer.attention_weights.weight)
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    expected = layer_output(layer, "cpu")
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    with torch.autocast(device, dtype, enabled=autocast):
        out = layer_output(layer, device)
    out.float().square().sum().backward()
    tolerance = 0.1 if autocast else 1e-4
    torch.testing.assert_close(out.float().cpu(), expected, atol=tolerance, rtol=tolerance)
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero(), name
