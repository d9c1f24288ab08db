"""RoIAlign with the conventions of mmdetection 1.x."""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import roi_align
from mmdet.registry import MODELS
from torch import Tensor

from deeplesion.models.legacy.roi_align import V1RoIAlign, V1SingleRoIExtractor, roi_align_v1

EXTRACTOR = {
    "type": "V1SingleRoIExtractor",
    "roi_layer": {"type": "V1RoIAlign", "output_size": 7, "sampling_ratio": 2},
    "out_channels": 3,
    "featmap_strides": [4],
}


def ramp(size: int = 16, dtype: torch.dtype = torch.float64) -> Tensor:
    """Features (1, 2, size, size) that are their own x and y: a sample tells where it was taken."""
    steps = torch.arange(size, dtype=dtype)
    return torch.stack([steps.expand(size, size), steps[:, None].expand(size, size)])[None]


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25, 0.125, 0.3])
@pytest.mark.parametrize("box", [(8.0, 9.0, 27.0, 17.5), (8.0, 9.0, 7.5, 8.25)])
def test_samples_are_where_the_old_kernel_took_them(
    scale: float, box: tuple[float, float, float, float]
) -> None:
    x1, y1, x2, y2 = box
    rois = torch.tensor([[0.0, *box]], dtype=torch.float64)
    out = roi_align_v1(ramp(32), rois, (2, 4), scale, 2)[0]
    width, height = (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
    across = x1 * scale + width * (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    down = y1 * scale + height * (torch.arange(2, dtype=torch.float64) + 0.5) / 2
    torch.testing.assert_close(out[0], across.expand(2, 4), rtol=0, atol=1e-12)
    torch.testing.assert_close(out[1], down[:, None].expand(2, 4), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.25, 0.125])
def test_is_mmcv_without_alignment_where_a_roi_has_a_feature_px(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 40, 40, generator=generator)
    first = torch.rand(200, 2, generator=generator) * 120
    last = first + 1 / scale + torch.rand(200, 2, generator=generator) * 60
    index = torch.randint(2, (200, 1), generator=generator).float()
    ours = roi_align_v1(features, torch.cat([index, first, last], 1), 7, scale, 2)
    wider = torch.cat([index, first, last + 1], 1)
    torch.testing.assert_close(
        ours, roi_align(features, wider, (7, 7), scale, 2, "avg", False), rtol=0, atol=2e-5
    )


def test_a_box_turned_inside_out_is_a_point() -> None:
    rois = torch.tensor([[0.0, 20.0, 8.0, 12.0, 2.0]], dtype=torch.float64)
    out = roi_align_v1(ramp(), rois, 2, 0.25, 2)
    torch.testing.assert_close(out[0, 0], torch.full((2, 2), 5.0, dtype=torch.float64))
    torch.testing.assert_close(out[0, 1], torch.full((2, 2), 2.0, dtype=torch.float64))


def test_gradient() -> None:
    features = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0.0, 1.0, 3.0, 14.0, 9.0], [0.0, 5.0, 5.0, 5.5, 4.5]]).double()
    assert torch.autograd.gradcheck(lambda x: roi_align_v1(x, rois, 2, 0.25, 2), features)


def test_layer_is_the_function() -> None:
    layer = MODELS.build(
        {"type": "V1RoIAlign", "output_size": 3, "spatial_scale": 0.5, "sampling_ratio": 2}
    )
    rois = torch.tensor([[0.0, 3.0, 3.0, 9.0, 20.0]], dtype=torch.float64)
    assert torch.equal(layer(ramp(), rois), roi_align_v1(ramp(), rois, 3, 0.5, 2))
    assert repr(layer) == ("V1RoIAlign(output_size=(3, 3), spatial_scale=0.5, sampling_ratio=2)")


def test_extractor_builds_a_layer_per_level() -> None:
    extractor = MODELS.build({**EXTRACTOR, "featmap_strides": [4, 8]})
    assert isinstance(extractor, V1SingleRoIExtractor)
    assert [layer.spatial_scale for layer in extractor.roi_layers] == [0.25, 0.125]
    assert all(isinstance(layer, V1RoIAlign) for layer in extractor.roi_layers)


def test_levels_go_by_a_size_with_the_last_pixel() -> None:
    extractor = MODELS.build({**EXTRACTOR, "featmap_strides": [4, 8]})
    rois = torch.tensor([[0.0, 0.0, 0.0, 111.0, 111.0], [0.0, 0.0, 0.0, 110.0, 110.0]])
    assert extractor.map_roi_levels(rois, 2).tolist() == [1, 0]
    assert rois[0, 3] == 111


def test_half_precision_does_not_move_the_rois() -> None:
    extractor = MODELS.build(EXTRACTOR)
    features = torch.randn(1, 3, 128, 128).bfloat16()
    # bfloat16 has steps of 2 px here.
    rois = torch.tensor([[0.0, 301.0, 303.0, 321.0, 333.0]])
    expected = roi_align_v1(features.float(), rois, 7, 0.25, 2)
    assert torch.equal(extractor((features,), rois), expected)


def test_no_rois() -> None:
    assert MODELS.build(EXTRACTOR)((torch.zeros(1, 3, 8, 8),), torch.zeros(0, 5)).shape == (
        0,
        3,
        7,
        7,
    )
