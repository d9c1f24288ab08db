"""Every detector learns, and every weight of it, with every operator that it has a config for."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from tests.configs.shrinking import CONFIGS, load, shrunk, training_batch
from tests.tools.running import NO_WORKERS, REPO_ROOT, called_in_vain, run_tool
from tools.train import main

STEPS = 20
# Proposals get better on the way, and with them the samples of the second stage harder.
TWO_STAGE_STEPS = 28
# Mean loss of the last three steps, compared with that of the first two.
ENOUGH = 0.85
# In place of the configs' own rates, which are for batches of eight, a warm-up and epochs.
RATE = 5e-4
TRANSFORMER_RATE = 1e-3
X101 = "x101-32x4d-fpn_7x2mm_20e_deeplesion.py"
# Weights that are to change: residual branches begin at zero, and let no gradient through before
# the first step.
FEW_STEPS = 2
LEAVES = [
    *sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*-r50*_20e_*.py")),
    *sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/*_36e_*.py")),
    f"alignshift/mask-rcnn_alignshift-{X101}",
    f"a3d/cascade-mask-rcnn_a3d-{X101}",
]
# A detector learns by any operator, whose own gradients have tests of their own.
DETECTORS = [leaf for leaf in LEAVES if re.match(r"alignshift/.*-r50.*_20e_", leaf)]
SMALL_DINO = [
    "model.backbone.backbone.depth=18",
    "model.backbone.backbone.init_cfg=None",
    "model.neck.0.in_channels=64,128,256,512",
    "model.neck.1.in_channels=128,256,512",
    "model.encoder.num_layers=1",
    "model.decoder.num_layers=1",
    "model.num_queries=50",
]
SHORT = [
    "train_cfg.max_epochs=1",
    "train_dataloader.dataset.indices=4",
    "val_dataloader.dataset.indices=2",
    "train_dataloader.dataset.pipeline.4.scale=(64,64)",
    "val_dataloader.dataset.pipeline.2.scale=(64,64)",
    *NO_WORKERS,
]


def loss_of(model: nn.Module, data: dict) -> Tensor:
    """The loss on a batch of the dataloader."""
    ready = model.data_preprocessor(data, training=True)
    total, _ = model.parse_losses(model.loss(ready["inputs"], ready["data_samples"]))
    return total


def train(cfg: Config, data_root: Path, steps: int) -> tuple[nn.Module, list[float]]:
    """A network after some steps on one batch, with its last gradients, and its losses."""
    torch.manual_seed(0)
    np.random.seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    rate = TRANSFORMER_RATE if "decoder" in cfg.model else RATE
    # PyTorch's own decay, which some configs ask the optimizer for.
    adam = {"type": "AdamW", "lr": rate, "weight_decay": 0.01}
    optimizer = build_optim_wrapper(model, {**cfg.optim_wrapper, "optimizer": adam})
    data = training_batch(cfg, data_root)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, data)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("leaf", DETECTORS)
def test_loss_falls(leaf: str, synthetic_root: Path) -> None:
    cfg = shrunk(load(leaf))
    steps = TWO_STAGE_STEPS if "roi_head" in cfg.model else STEPS
    _, losses = train(cfg, synthetic_root, steps)
    assert np.mean(losses[-3:]) < ENOUGH * np.mean(losses[:2]), losses


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_weight_learns(leaf: str, synthetic_root: Path) -> None:
    model, losses = train(shrunk(load(leaf)), synthetic_root, FEW_STEPS)
    assert np.isfinite(losses).all()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert [n for n, p in model.backbone.named_parameters() if not p.grad.any()] == []


def test_tool_trains_a_wrapped_backbone_without_masks(synthetic_root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(synthetic_root, data, ignore=shutil.ignore_patterns("masks_*"))
    result = run_tool(
        "tools/train.py", REPO_ROOT / "configs/a3d/dino_a3d-r50_7x2mm_20e_deeplesion.py",
        "--work-dir", tmp_path, "--data-root", data, "--cfg-options", *SMALL_DINO, *SHORT,
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "epoch_1.pth").exists()
    assert list(tmp_path.glob("best_froc_mean_*.pth"))


def test_settings_of_another_operator_end_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    operator = "model.backbone.operator"
    options = [f"{operator}.n_fold=8", f"{operator}.type=A3DConv"]
    line = called_in_vain(main, CONFIGS / LEAVES[-1], capsys=capsys, options=options)
    assert f"{operator} must have settings of A3DConv (dimension, enable_shift)" in line
    assert "got n_fold" in line
