"""RoIAlign (arXiv 1703.06870) as the CUDA kernel of mmdetection 1.x computed it."""

from __future__ import annotations

from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

# What today's kernel takes away from coordinates, so that they count from pixel centers.
HALF_PIXEL = 0.5


def roi_align_v1(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
) -> Tensor:
    """Average samples of features over bins of each RoI.

    A RoI ends behind its last pixel, ``x2 + 1``, feature px are counted from their corners, and
    there is no smallest size. Today's kernel has no smallest size only where it takes half a pixel
    away from the coordinates, so they get half a pixel more; they do in feature px, where the sum
    is rounded least.

    Args:
        features: ``(N, C, H, W)``.
        rois: ``(n, 5)`` image index, x1, y1, x2, y2 in px of the image.
        output_size: Bins per RoI, down and across.
        spatial_scale: Feature px per image px.
        sampling_ratio: Samples per bin and axis; 0 for as many as a bin has feature px.

    Returns:
        ``(n, C, output_size, output_size)``.
    """
    index, first, last = rois.split([1, 2, 2], dim=1)
    start = first * spatial_scale
    # A box turned inside out has no size.
    end = torch.maximum((last + 1) * spatial_scale, start)
    in_features = torch.cat([index, start + HALF_PIXEL, end + HALF_PIXEL], dim=1)
    return roi_align(features, in_features, _pair(output_size), 1.0, sampling_ratio, "avg", True)


@MODELS.register_module()
class V1RoIAlign(nn.Module):
    """RoIAlign with the numerics of mmdetection 1.x.

    Args:
        output_size: Bins per RoI, down and across.
        spatial_scale: Feature px per image px.
        sampling_ratio: Samples per bin and axis; 0 for as many as a bin has feature px.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
    ) -> None:
        super().__init__()
        self.output_size = _pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Sample ``(N, C, H, W)`` features in ``(n, 5)`` RoIs, see :func:`roi_align_v1`."""
        return roi_align_v1(
            features, rois, self.output_size, self.spatial_scale, self.sampling_ratio
        )

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}"
        )


@MODELS.register_module()
class V1SingleRoIExtractor(SingleRoIExtractor):
    """RoI features of one level each, with the numerics of mmdetection 1.x.

    ``roi_layer`` may be any registered layer that takes a ``spatial_scale``, e.g.
    :class:`V1RoIAlign`; the settings are those of
    :class:`mmdet.models.roi_heads.SingleRoIExtractor`.
    """

    def build_roi_layers(self, layer_cfg: dict, featmap_strides: list[int]) -> nn.ModuleList:
        """One registered layer per level.

        Args:
            layer_cfg: Type and settings of the layer.
            featmap_strides: Image px per feature px of each level.
        """
        layers = ({**layer_cfg, "spatial_scale": 1 / stride} for stride in featmap_strides)
        return nn.ModuleList(MODELS.build(layer) for layer in layers)

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Level ``(n,)`` of each of ``(n, 5)`` RoIs, by a size with the +1 pixel."""
        last_inside = rois.new_tensor([0, 0, 0, 1, 1])
        return super().map_roi_levels(rois + last_inside, num_levels)

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, *args: Any) -> Tensor:
        """Features ``(n, C, h, w)`` of ``(n, 5)`` RoIs.

        At least in float32: mmdetection gives the RoIs the precision of the features, and in half
        precision they would move by whole pixels.
        """
        precision = torch.promote_types(feats[0].dtype, torch.float32)
        return super().forward(tuple(level.to(precision) for level in feats), rois, *args)
