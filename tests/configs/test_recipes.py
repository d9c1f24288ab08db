"""The long recipe runs: several sizes, average, checkpoints, evaluation."""

from __future__ import annotations

from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch

from deeplesion.engine.config import set_data_root, settle_workers
from deeplesion.engine.runner import CTRunner
from tests.configs.shrinking import LOADERS, load, shrunk

# Of either kind of backbone, one of them with weights that mix slices: the recipe is the same for
# all operators, see test_configs.py, and all of them learn in test_training.py.
LEAVES = (
    "alignshift/mask-rcnn_alignshift-r50-fpn_7x2mm_36e_deeplesion.py",
    "a3d/mask-rcnn_a3d-densenet121_7x2mm_36e_deeplesion.py",
)


@pytest.mark.parametrize("leaf", LEAVES)
def test_long_recipe_trains_evaluates_and_saves(
    leaf: str, synthetic_root: Path, tmp_path: Path
) -> None:
    cfg = shrunk(load(leaf))
    set_data_root(cfg, str(synthetic_root))
    for loader in LOADERS:
        cfg[loader].num_workers = 0
        cfg[loader].dataset.indices = 4 if loader == "train_dataloader" else 2
    settle_workers(cfg)
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir, cfg.experiment_name = str(tmp_path), f"recipe_{Path(leaf).stem}"
    cfg.vis_backends = cfg.visualizer.vis_backends = [{"type": "LocalVisBackend"}]
    cfg.auto_scale_lr.enable = True
    CTRunner.from_cfg(cfg).train()
    (best,) = tmp_path.glob("best_froc_mean_epoch_1.pth")
    last = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    averaged = torch.load(best, weights_only=False)["state_dict"]
    assert all(torch.equal(value, averaged[name]) for name, value in last["state_dict"].items())
    names = [n for n in averaged if n.endswith("weight")]
    newest = last["ema_state_dict"]
    assert any(not torch.equal(averaged[n], newest[f"module.{n}"]) for n in names)
