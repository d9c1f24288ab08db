"""Configs made small enough to train some steps in a test."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
# All widths of a detector are divided by this, those of its backbone included.
SHRINKAGE = 8
WIDTHS = {
    "in_channels",
    "out_channels",
    "feat_channels",
    "conv_out_channels",
    "fc_out_channels",
    "feedforward_channels",
    "embed_dims",
    "num_feats",
    "base_channels",
    "groups",
}
NUM_SLICES = 3
SIZE = 64


@cache
def _read(leaf: str) -> Config:
    return Config.fromfile(CONFIGS / leaf)


def load(leaf: str) -> Config:
    """A config that begins from scratch."""
    cfg = copy.deepcopy(_read(leaf))
    backbone = cfg.model.backbone
    (backbone.backbone if "backbone" in backbone else backbone).init_cfg = None
    init_default_scope(cfg.default_scope)
    return cfg


def loading(cfg: Config) -> list[dict[str, Any]]:
    """The step of each pipeline that reads slices."""
    steps = [step for loader in LOADERS for step in cfg[loader].dataset.pipeline]
    return [step for step in steps if step["type"] == "LoadCTSlices"]


def narrowed(part: Any) -> Any:
    """A copy of a part of a config with all widths divided."""
    if isinstance(part, list | tuple):
        return [narrowed(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: _divided(value) if key in WIDTHS else narrowed(value) for key, value in part.items()
    }


def _divided(width: int | list[int]) -> int | list[int]:
    return [w // SHRINKAGE for w in width] if isinstance(width, list) else width // SHRINKAGE


def shrunk(cfg: Config) -> Config:
    """A copy of a config with a slim network of 50 layers, and stacks of 3 slices of 64 px."""
    cfg = copy.deepcopy(cfg)
    if "backbone" in cfg.model.backbone:
        inner = cfg.model.backbone.backbone
        inner.depth = 50
        # What stands in no config, as it is the default.
        inner.base_channels = 64
    if cfg.model.type == "DINO":
        cfg.model.bbox_head.embed_dims = 256
    cfg.model = narrowed(cfg.model)
    if "backbone" in cfg.model.backbone:
        cfg.model.backbone.num_slices = cfg.model.neck[0].num_slices = NUM_SLICES
    else:
        _shrink_densenet(cfg)
    for step in loading(cfg):
        step["num_slices"] = NUM_SLICES
    for loader in LOADERS:
        for step in cfg[loader].dataset.pipeline:
            if step["type"] == "ResizeCT":
                step["scale"] = (SIZE, SIZE)
            if step["type"] == "RandomStepResize":
                step["scales"] = [(SIZE, SIZE), (SIZE // 2, SIZE // 2)]
    if cfg.model.type == "DINO":
        cfg.model.num_queries = 20
        cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 2
    return cfg


def _shrink_densenet(cfg: Config) -> None:
    backbone = cfg.model.backbone
    backbone.update(num_init_features=8, growth_rate=8, block_config=(1, 2, 2))
    if "num_slices" in backbone:
        backbone.num_slices = NUM_SLICES
    cfg.model.neck.update(in_channels=[16, 24, 28], num_slices=NUM_SLICES)
    # At first any box may be a lesion: as many as in training take minutes on a CPU.
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50


def training_batch(cfg: Config, data_root: Path, size: int = 2) -> dict:
    """The first training samples of a data set, as the dataloader gives them."""
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, "data_root": str(data_root)})
    return pseudo_collate([dataset[index] for index in range(size)])
