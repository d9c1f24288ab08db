"""The golden detectors, built from our configs, with the weights that a rule makes."""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (mmdet imports mmcv.ops, which this serves)
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from deeplesion.legacy.checkpoint import convert_weights
from deeplesion.models.inputs import CTInputs

BASE = "configs/_base_/models/mask-rcnn_densenet121_legacy.py"
NUM_SLICES = 3
SIZE = 256
# Where a network does not look at the thickness, any will do.
SOME_MM = 3.0
BACKBONES: dict[str, dict[str, Any]] = {
    "align3": {"type": "DenseNetCustomTrunc3dAlign"},
    "tsm3": {"type": "DenseNetCustomTrunc3dTSM"},
    "a3d3": {"type": "DenseNetCustomTrunc3dA3D", "num_slices": NUM_SLICES},
    "25d3": {"type": "DenseNetCustomTrunc", "num_slices": NUM_SLICES},
}


def load_rule(goldens: Path) -> ModuleType:
    """The module beside the goldens that makes their weights and input."""
    spec = importlib.util.spec_from_file_location("rule", goldens / "weights_by_rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_state_dict(goldens: Path, name: str) -> dict[str, Tensor]:
    """The published state dict of a golden detector, whose tensors are not to be changed."""
    return dict(_published_state_dict(goldens, name))


# To make it takes seconds. One has hundreds of MB, and tests go from one network to the next.
@lru_cache(maxsize=1)
def _published_state_dict(goldens: Path, name: str) -> dict[str, Tensor]:
    state = load_rule(goldens).published_state_dict(goldens / "detectors" / name)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def build_detector(repo_root: Path, goldens: Path, name: str) -> nn.Module:
    """A golden detector in evaluation mode; every weight has its place and no place is empty."""
    init_default_scope("mmdet")
    model = Config.fromfile(repo_root / BASE).model
    model.backbone = BACKBONES[name]
    model.neck.num_slices = 1 if name == "25d3" else NUM_SLICES
    detector = MODELS.build(model).eval()
    detector.load_state_dict(convert_weights(published_state_dict(goldens, name)).state)
    return detector


def golden_inputs(goldens: Path, mm: float) -> CTInputs:
    """What the published detectors saw, of some thickness."""
    volume = load_rule(goldens).input_volume(goldens / "detectors", NUM_SLICES)
    return CTInputs(torch.from_numpy(volume)[None, None], torch.tensor([mm]))


class Outputs:
    """Everything that a detector computes on the golden input.

    Attributes:
        maps: ``feat``, ``rpn_cls`` and ``rpn_reg``, thinned out as in the goldens.
        proposals: ``(n, 5)`` boxes with scores.
        found: Boxes in px of the input, scores and masks.
    """

    def __init__(self, detector: nn.Module, inputs: CTInputs) -> None:
        sample = DetDataSample(
            metainfo={
                "img_shape": (SIZE, SIZE),
                "ori_shape": (SIZE, SIZE),
                "scale_factor": (1.0, 1.0),
            }
        )
        with torch.no_grad():
            features = detector.extract_feat(inputs)
            scores, deltas = detector.rpn_head(features)
            proposals = detector.rpn_head.predict(features, [sample])
            found = detector.roi_head.predict(features, proposals, [sample], rescale=False)
        self.maps = {
            "feat": features[0][0, ::8, ::4, ::4],
            "rpn_cls": scores[0][0, :, ::4, ::4],
            "rpn_reg": deltas[0][0, :, ::4, ::4],
        }
        self.proposals = with_scores(proposals[0])
        self.found: InstanceData = found[0]


def with_scores(instances: InstanceData) -> Tensor:
    """``(n, 5)`` boxes and scores."""
    return torch.cat([instances.bboxes, instances.scores[:, None]], dim=1)


def golden_masks(goldens: Path, name: str, suffix: str) -> Tensor:
    """``(n, H, W)`` masks of the golden detections."""
    rles = json.loads((goldens / "detectors" / name / "masks_rle.json").read_text())
    masks = [coco_mask.decode(rle) for rle in rles[f"masks{suffix}"]]
    return torch.from_numpy(np.stack(masks)).bool()
