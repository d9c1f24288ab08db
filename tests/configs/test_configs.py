"""Every config: it loads, its parts agree, it builds, it holds the papers' recipe, it trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.deeplesion.models.detectors import batch

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LEAVES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name != "_base_"
)
RECIPES = [leaf for leaf in LEAVES if "_20e_" in leaf]
FULL_SIZE = "{0}/mask-rcnn_{0}-densenet121_3x2mm_20e_deeplesion.py"
OPERATORS = ("alignshift", "tsm", "a3d", "25d")
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def load(leaf: str) -> Config:
    """A config that begins from scratch."""
    cfg = Config.fromfile(CONFIGS / leaf)
    cfg.model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    return cfg


def loading(cfg: Config) -> list[dict[str, Any]]:
    """The step of each pipeline that reads slices."""
    steps = [step for loader in LOADERS for step in cfg[loader].dataset.pipeline]
    return [step for step in steps if step["type"] == "LoadCTSlices"]


def test_every_operator_has_its_configs() -> None:
    for operator in OPERATORS:
        for slices in (3, 7):
            name = f"{operator}/mask-rcnn_{operator}-densenet121_{slices}x2mm_20e_deeplesion.py"
            assert name in LEAVES
        assert f"{operator}/mask-rcnn_{operator}-densenet-small_7x2mm_500it_synthetic.py" in LEAVES


@pytest.mark.parametrize("leaf", LEAVES)
def test_builds(leaf: str) -> None:
    with torch.device("meta"):
        model = MODELS.build(load(leaf).model)
    assert type(model).__name__ == "MaskRCNN"
    assert model.neck.__class__.__name__ == "SliceCollapseFPN"


@pytest.mark.parametrize("leaf", LEAVES)
def test_numbers_of_slices_agree(leaf: str) -> None:
    cfg = load(leaf)
    (num_slices,) = {step["num_slices"] for step in loading(cfg)}
    operator = leaf.partition("/")[0]
    assert f"_{num_slices}x2mm_" in leaf
    assert len(loading(cfg)) == len(LOADERS)
    if operator in ("a3d", "25d"):
        assert cfg.model.backbone.num_slices == num_slices
    assert cfg.model.neck.num_slices == (1 if operator == "25d" else num_slices)


@pytest.mark.parametrize("leaf", LEAVES)
def test_only_alignshift_sees_thick_slices_as_they_are(leaf: str) -> None:
    modes = {step.get("interpolate", "thin") for step in loading(load(leaf))}
    assert modes == ({"thin"} if leaf.startswith("alignshift/") else {"always"})
    assert {step["slice_interval"] for step in loading(load(leaf))} == {2.0}


@pytest.mark.parametrize("leaf", LEAVES)
def test_processes_share_their_batch_statistics(leaf: str) -> None:
    assert {"type": "SyncBuffersHook"} in load(leaf).custom_hooks


@pytest.mark.parametrize("leaf", RECIPES)
def test_schedule_is_the_papers(leaf: str) -> None:
    cfg = load(leaf)
    assert cfg.optim_wrapper.optimizer == {
        "type": "SGD",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.train_cfg.max_epochs == 20
    assert cfg.auto_scale_lr.base_batch_size == 8
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.type, warm_up.by_epoch) == ("LinearLR", False)
    assert (warm_up.start_factor, warm_up.begin, warm_up.end) == (1 / 100, 0, 500)
    assert (steps.type, steps.by_epoch, steps.gamma) == ("MultiStepLR", True, 0.1)
    assert steps.milestones == [9, 16]
    resizes = [s for name in LOADERS for s in cfg[name].dataset.pipeline if s["type"] == "Resize"]
    assert [resize["scale"] for resize in resizes] == [(512, 512)] * 3


@pytest.mark.parametrize("leaf", RECIPES)
def test_detector_is_the_papers(leaf: str) -> None:
    model = load(leaf).model
    anchors = model.rpn_head.anchor_generator
    assert anchors.strides == [4]
    assert [4 * scale for scale in anchors.scales] == [16, 24, 32, 48, 96, 192]
    assert anchors.ratios == [0.5, 1.0, 2.0]
    rpn, roi = model.train_cfg.rpn, model.train_cfg.rcnn
    assert (rpn.sampler.num, rpn.assigner.pos_iou_thr, rpn.assigner.neg_iou_thr) == (32, 0.7, 0.3)
    assert (roi.sampler.num, roi.sampler.pos_fraction) == (64, 0.25)
    assert (roi.assigner.pos_iou_thr, roi.assigner.neg_iou_thr) == (0.5, 0.5)
    assert model.roi_head.mask_head.loss_mask.type == "MaskDiceLoss"
    assert model.test_cfg.rpn.max_per_img == 300
    test = model.test_cfg.rcnn
    assert (test.score_thr, test.nms.iou_threshold, test.max_per_img) == (0.001, 0.5, 50)


@pytest.mark.parametrize("operator", OPERATORS)
def test_full_size_config_takes_a_training_step(operator: str) -> None:
    torch.manual_seed(0)
    config = load(FULL_SIZE.format(operator)).model
    # The two fully connected layers of the full head alone have 56 million weights.
    config.roi_head.bbox_head.fc_out_channels = 64
    model = MODELS.build(config)
    before = copy.deepcopy(model.backbone.conv0.weight.detach())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    data = model.data_preprocessor(batch(), training=True)
    losses = model.loss(data["inputs"], data["data_samples"])
    total, _ = model.parse_losses(losses)
    total.backward()
    optimizer.step()
    assert torch.isfinite(total)
    assert {"loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"} <= set(losses)
    assert not torch.equal(model.backbone.conv0.weight, before)
