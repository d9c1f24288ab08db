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


def make_detectors(config: Path, device: str) -> dict[str, nn.Module]:
    """Detectors in evaluation mode, by name.

    Args:
        config: Of ours.
        device: Where they run.
    """
    model = Config.fromfile(config).model
    model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        ours, textbook = MODELS.build(model), MODELS.build(model)
    textbook.backbone = TextbookBackbone()
    textbook.neck = TextbookNeck(model.neck.num_slices)
    textbook.load_state_dict(ours.state_dict())
    return {"ours": ours.to(device).eval(), "textbook": textbook.to(device).eval()}


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
