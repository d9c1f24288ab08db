"""Parameters and FLOPs of the parts of a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from mmdet.models.detectors import (
    BaseDetector,
    DetectionTransformer,
    SingleStageDetector,
    TwoStageDetector,
)
from mmdet.models.roi_heads import (
    BaseRoIHead,
    CascadeRoIHead,
    SingleRoIExtractor,
    StandardRoIHead,
)
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor
from mmdet.structures import DetDataSample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from deeplesion.models.inputs import CTInputs
from deeplesion.models.legacy.roi_align import V1SingleRoIExtractor
from deeplesion.models.legacy.roi_head import V1StandardRoIHead

# Those whose computation is known here; version 1's have other numerics and the same maps.
ROI_HEADS = (StandardRoIHead, CascadeRoIHead, V1StandardRoIHead)
EXTRACTORS = (SingleRoIExtractor, V1SingleRoIExtractor)


class InputSize(NamedTuple):
    """Extent of one stack of slices: D, and H and W in px."""

    slices: int
    height: int
    width: int


@dataclass(frozen=True)
class Parts:
    """A number for each part of a detector.

    Attributes:
        backbone: Of the backbone.
        neck: Of the neck, the collapse of the slices with it.
        heads: Of all that comes after it (the transformer of a DETR, too); None where not known.
    """

    backbone: int
    neck: int
    heads: int | None

    @property
    def total(self) -> int | None:
        """Of the whole detector; None where a part is not known."""
        return None if self.heads is None else self.backbone + self.neck + self.heads


@dataclass(frozen=True)
class RoILimits:
    """RoIs of one image, at most, that the heads of a two-stage detector see at test time."""

    boxes: int
    masks: int


@dataclass(frozen=True)
class FlopCount:
    """FLOPs of one input at inference, a multiply-add counted as 2.

    Attributes:
        flops: Of the parts.
        rois: RoIs that the heads were counted for; None where no head works on RoIs.
        unknown: Why the FLOPs of the heads are not known; empty where they are.
    """

    flops: Parts
    rois: RoILimits | None = None
    unknown: str = ""


class _NotCountableError(Exception):
    """The heads do not let themselves be counted; the message says why."""


def count_parameters(model: BaseDetector) -> Parts:
    """Numbers of parameters of a detector, trained or not, each counted once.

    Args:
        model: A detector of mmdetection.
    """
    neck = model.neck.parameters() if model.with_neck else ()
    total, in_backbone, in_neck = (
        _numel(parameters) for parameters in (model.parameters(), model.backbone.parameters(), neck)
    )
    return Parts(in_backbone, in_neck, total - in_backbone - in_neck)


def _numel(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def count_flops(model: BaseDetector, size: InputSize) -> FlopCount:
    """FLOPs of the parts of a detector for one stack of slices.

    The heads of a two-stage detector are counted for as many RoIs as its ``test_cfg`` allows, in
    every stage of a cascade.

    Args:
        model: A detector of mmdetection that takes :class:`CTInputs`, in evaluation mode.
        size: Extent of the stack.

    Returns:
        What was counted, see :func:`flops_of` for what counts.
    """
    inputs = CTInputs(torch.empty(1, 1, *size, device="meta"), torch.empty(1, device="meta"))
    maps, in_backbone = flops_of(model.backbone, inputs)
    maps, in_neck = flops_of(model.neck, maps) if model.with_neck else (maps, 0)
    try:
        in_heads, rois = _count_heads(model, maps, size)
    except _NotCountableError as reason:
        return FlopCount(Parts(in_backbone, in_neck, None), unknown=str(reason))
    return FlopCount(Parts(in_backbone, in_neck, in_heads), rois)


def flops_of(function: Callable[..., Any], *inputs: Any) -> tuple[Any, int]:
    """FLOPs of one call, a multiply-add counted as 2.

    Convolutions, matrix products and attention are counted, as
    :class:`torch.utils.flop_counter.FlopCounterMode` does, and nothing that acts on elements. They
    are worked out from shapes alone, unless values decide what is computed: then it is, on zeros.

    Args:
        function: A module or any other function of tensors.
        *inputs: Tensors, nested as you like; only their shapes and types are looked at.

    Returns:
        What it returns, of use for its shapes only, and FLOPs.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _counted(function, inputs)
    except RuntimeError:
        # An error of the function's own comes again.
        return _counted(function, inputs)


def _counted(function: Callable[..., Any], inputs: tuple) -> tuple[Any, int]:
    zeros = tree_map_only(Tensor, lambda t: torch.zeros(t.shape, dtype=t.dtype), inputs)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = function(*zeros)
    return output, counter.get_total_flops()


def _count_heads(model: BaseDetector, maps: Any, size: InputSize) -> tuple[int, RoILimits | None]:
    """FLOPs of what comes after the neck: the same calls as in each kind's own ``_forward``.

    Raises:
        _NotCountableError: It is of none of the kinds known here.
    """
    forward = type(model)._forward
    if forward is SingleStageDetector._forward:
        return flops_of(model.bbox_head.forward, maps)[1], None
    if forward is DetectionTransformer._forward:
        shape = (size.height, size.width)
        samples = [DetDataSample(metainfo={"img_shape": shape, "batch_input_shape": shape})]

        def transform(maps: Any) -> Any:
            return model.bbox_head.forward(**model.forward_transformer(maps, samples))

        return flops_of(transform, maps)[1], None
    if forward is TwoStageDetector._forward and model.with_rpn:
        rois = _roi_limits(model)
        in_rpn = flops_of(model.rpn_head.forward, maps)[1]
        return in_rpn + _count_roi_head(model.roi_head, rois), rois
    raise _NotCountableError(
        f"{type(model).__name__} does not run like a single-stage, a two-stage or a DETR detector"
    )


def _roi_limits(model: BaseDetector) -> RoILimits:
    """RoIs of one image that the ``test_cfg`` of a two-stage detector allows."""
    boxes = model.test_cfg.rpn.get("max_per_img", 0)
    masks = model.test_cfg.rcnn.get("max_per_img", 0) if model.with_mask else 0
    if boxes < 1 or (model.with_mask and masks < 1):
        raise _NotCountableError("test_cfg sets no limit (max_per_img) to the number of RoIs")
    return RoILimits(boxes, masks)


def _count_roi_head(roi_head: BaseRoIHead, rois: RoILimits) -> int:
    """FLOPs of a RoI head, of all its stages; RoIAlign has none that count."""
    if type(roi_head) not in ROI_HEADS:
        raise _NotCountableError(f"RoIs take a way of their own through {type(roi_head).__name__}")
    stages = [(roi_head.bbox_roi_extractor, roi_head.bbox_head, rois.boxes)]
    if roi_head.with_mask:
        stages.append((roi_head.mask_roi_extractor, roi_head.mask_head, rois.masks))
    return sum(
        _count_roi_stage(roi_head, extractor, head, number)
        for extractors, heads, number in stages
        for extractor, head in zip(_as_list(extractors), _as_list(heads), strict=True)
    )


def _count_roi_stage(
    roi_head: BaseRoIHead, extractor: BaseRoIExtractor, head: nn.Module, number: int
) -> int:
    if type(extractor) not in EXTRACTORS:
        raise _NotCountableError(
            f"{type(extractor).__name__} computes with the maps of RoIs itself"
        )
    maps = torch.empty(
        number, extractor.out_channels, *extractor.roi_layers[0].output_size, device="meta"
    )
    in_shared = 0
    if roi_head.with_shared_head:
        maps, in_shared = flops_of(roi_head.shared_head, maps)
    return in_shared + flops_of(head, maps)[1]


def _as_list(modules: nn.Module) -> list[nn.Module]:
    """The stages of a cascade, or the one that there is."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
