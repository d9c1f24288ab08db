"""The papers' detector, with our backbone and neck and with the textbook's, of the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import deeplesion  # noqa: F401
from benchmarks.baseline.detector import TextbookBackbone, TextbookNeck

SLICE_THICKNESS = 5.0


def make_detector(config: Path, device: str, textbook: bool) -> nn.Module:
    """A detector in evaluation mode, always with the same weights.

    Args:
        config: Of ours.
        device: Where it runs.
        textbook: Whether backbone and neck are the textbook's.
    """
    model = Config.fromfile(config).model
    model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector: nn.Module = MODELS.build(model)
    if textbook:
        weights = detector.state_dict()
        detector.backbone = TextbookBackbone()
        detector.neck = TextbookNeck(model.neck.num_slices)
        detector.load_state_dict(weights)
    return detector.to(device).eval()


def make_sample(depth: int, size: int) -> Callable[[], dict[str, Any]]:
    """A stack of slices as the data loader gives it to ``test_step``, which changes it."""
    generator = torch.Generator().manual_seed(0)
    volume = 255 * torch.rand(depth, size, size, generator=generator) - 50
    meta = {
        "img_shape": (size, size),
        "ori_shape": (size, size),
        "scale_factor": (1.0, 1.0),
        "thickness": SLICE_THICKNESS,
    }
    return lambda: {"inputs": [volume], "data_samples": [DetDataSample(metainfo=meta)]}
