"""The pieces of the old detector against what they gave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import numpy as np
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from deeplesion.models.legacy.box_coder import V1DeltaXYWHBBoxCoder
from deeplesion.models.legacy.masks import crop_mask_targets, paste_masks
from deeplesion.models.legacy.nms import multiclass_nms, nms_in_order
from deeplesion.models.legacy.roi_align import roi_align_v1
from tests.parity.page import Row, Table

ANCHORS = {
    "type": "LegacyAnchorGenerator",
    "scales": [4, 6, 8, 12, 24, 48],
    "ratios": [0.5, 1.0, 2.0],
    "strides": [4],
    "centers": [(0.0, 0.0)],
}
ASSIGNER = {
    "type": "MaxIoUAssigner",
    "pos_iou_thr": 0.5,
    "neg_iou_thr": 0.5,
    "min_pos_iou": 0.5,
    "match_low_quality": True,
    "ignore_iof_thr": -1,
    "iou_calculator": {"type": "V1BboxOverlaps2D"},
}
# Standard deviations of the RoI head's deltas, with which the coder's goldens were made.
CODER = V1DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
IMAGE = (512, 512)
TABLE = Table("pieces", "piece", {"of the largest value": 1e-6})

Golden = dict[str, Tensor]
# What a piece gives and what it gave.
Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def golden(goldens: Path) -> Golden:
    """Inputs and outputs of the pieces."""
    with np.load(goldens / "legacy_ops.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored}


def base_anchors(golden: Golden) -> Pair:
    """Anchors of one cell."""
    return TASK_UTILS.build(ANCHORS).base_anchors[0], golden["base_anchors"]


def anchor_grid(golden: Golden) -> Pair:
    """Anchors of 8 x 6 cells."""
    grid = TASK_UTILS.build(ANCHORS).grid_priors([(8, 6)], device="cpu")[0]
    return grid, golden["grid_8x6_stride4"]


def decoding(golden: Golden) -> Pair:
    """Boxes from deltas."""
    boxes = CODER.decode(golden["coder_rois"], golden["coder_deltas"], max_shape=IMAGE)
    return boxes, golden["coder_dec"]


def encoding(golden: Golden) -> Pair:
    """Deltas from boxes; a lesion turned inside out has none."""
    deltas = CODER.encode(golden["coder_rois"], golden["coder_gts"])
    expected = golden["coder_enc"]
    assert torch.equal(deltas.isfinite(), expected.isfinite())
    finite = expected.isfinite()
    return deltas[finite], expected[finite]


def suppression(golden: Golden) -> Pair:
    """Indices of the kept boxes, in their order."""
    dets = golden["nms_dets"]
    thresholds = (0.3, 0.5, 0.7)
    kept = [nms_in_order(dets[:, :4], dets[:, 4], threshold) for threshold in thresholds]
    return torch.cat(kept), torch.cat([golden[f"nms_keep_{t}"] for t in thresholds])


def detections(golden: Golden) -> Pair:
    """Detections above a score: fewer than 50 unsorted, the best 50 sorted."""
    boxes, scores = golden["mc_bboxes"][:, 4:], golden["mc_scores"].flip(1)
    thresholds = (0.5, 0.7)
    found = [multiclass_nms(boxes, scores, threshold, 0.5, 50)[0] for threshold in thresholds]
    return torch.cat(found), torch.cat([golden[f"mc_out_thr{t}"] for t in thresholds])


def assignment(golden: Golden) -> Pair:
    """Lesions of boxes, with low-quality matches."""
    lesions = InstanceData(bboxes=golden["asg_gt"], labels=torch.zeros(2, dtype=torch.long))
    assigned = TASK_UTILS.build(ASSIGNER).assign(InstanceData(priors=golden["asg_boxes"]), lesions)
    return assigned.gt_inds, golden["asg_gt_inds"]


def roi_align(size: int, gradient: bool) -> Callable[[Golden], Pair]:
    """RoI features, or the gradient by the map."""

    def compute(golden: Golden) -> Pair:
        features = golden["roi_feat"].clone().requires_grad_()
        out = roi_align_v1(features, golden["roi_rois"], size, 1 / 4, 2)
        if not gradient:
            return out.detach(), golden[f"roi_out{size}"]
        out.backward(golden[f"roi_gout{size}"])
        assert features.grad is not None
        return features.grad, golden[f"roi_gfeat{size}"]

    return compute


def mask_targets(dtype: type, key: str) -> Callable[[Golden], Pair]:
    """Targets of masks of some type."""

    def compute(golden: Golden) -> Pair:
        boxes = golden["mt_boxes"].numpy()
        masks = golden["mt_mask"].numpy().astype(dtype).repeat(len(boxes), axis=0)
        return torch.from_numpy(crop_mask_targets(masks, boxes, (28, 28))), golden[key]

    return compute


def pasting(golden: Golden) -> Pair:
    """Masks of detections in an image."""
    expected = golden["paste_masks"]
    lesion = golden["paste_logits"][:, 1].sigmoid().numpy()
    boxes = golden["paste_boxes"][:, :4].numpy()
    masks = paste_masks(lesion, boxes, (expected.shape[1], expected.shape[2]), 0.5)
    return torch.from_numpy(masks).to(expected), expected


PIECES = {
    "anchors of a cell": base_anchors,
    "anchors of a grid": anchor_grid,
    "decoding of boxes": decoding,
    "encoding of boxes": encoding,
    "NMS": suppression,
    "multi-class NMS": detections,
    "assigner": assignment,
    "RoIAlign, 7 x 7": roi_align(7, gradient=False),
    "RoIAlign, 7 x 7, gradient": roi_align(7, gradient=True),
    "RoIAlign, 14 x 14": roi_align(14, gradient=False),
    "RoIAlign, 14 x 14, gradient": roi_align(14, gradient=True),
    "mask targets of floats": mask_targets(np.float32, "mt_float"),
    "mask targets of bytes": mask_targets(np.uint8, "mt_uint8"),
    "pasting of masks": pasting,
}
ROUNDED = ("decoding", "encoding", "RoIAlign")


def test_pieces(golden: Golden) -> None:
    rows: dict[str, Row] = {}
    for piece, compute in PIECES.items():
        result, expected = compute(golden)
        assert result.shape == expected.shape, piece
        assert piece.startswith(ROUNDED) or torch.equal(result, expected), piece
        error = (result - expected).abs().max() / expected.abs().max()
        rows[piece] = dict.fromkeys(TABLE.limits, float(error))
    TABLE.check(rows)


def test_every_golden_is_used(golden: Golden) -> None:
    used = set()

    class Recorder(dict[str, Tensor]):
        def __getitem__(self, key: str) -> Tensor:
            used.add(key)
            return super().__getitem__(key)

    for compute in PIECES.values():
        compute(Recorder(golden))
    assert used == golden.keys()


def test_page_has_every_piece() -> None:
    assert list(TABLE.on_page()) == list(PIECES)
