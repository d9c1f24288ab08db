"""Every config: it loads, its parts agree, it builds, it holds the papers' recipe, it predicts."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, PARAM_SCHEDULERS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from deeplesion.models.inputs import CTInputs
from deeplesion.models.pretrained import resolve_checkpoint
from tests.configs.shrinking import CONFIGS, LOADERS, load, loading
from tests.deeplesion.models.detectors import SIZE, batch

LEAVES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.glob("*/*.py")
    if path.parent.name != "_base_"
)
NAME = re.compile(
    r"(?P<folder>\w+)/(?P<detector>[a-z-]+)_(?P=folder)-(?P<backbone>[a-z0-9-]+)_"
    r"(?P<slices>\d)x2mm_(?P<schedule>20e|36e|500it|overfit)_(deeplesion|synthetic)\.py"
)
# Those of the papers, on the truncated DenseNet, and those on wrapped 2D backbones.
RECIPES = [leaf for leaf in LEAVES if "-densenet121_" in leaf and "_20e_" in leaf]
PAPERS_DETECTOR = [leaf for leaf in LEAVES if "-densenet121_" in leaf]
LONG = [leaf for leaf in LEAVES if "_36e_" in leaf]
WRAPPED = [leaf for leaf in LEAVES if "densenet" not in leaf]
FULL_SIZE = "{0}/mask-rcnn_{0}-densenet121_3x2mm_20e_deeplesion.py"
DENSENET_OPERATORS = ("alignshift", "tsm", "a3d", "25d")
OPERATORS = {
    "alignshift": "AlignShiftConv",
    "tsm": "TSMConv",
    "a3d": "A3DConv",
    "acs": "ACSConv",
    "i3d": "I3DConv",
}
DETECTORS = {
    "mask-rcnn": "MaskRCNN",
    "cascade-mask-rcnn": "CascadeRCNN",
    "retinanet": "RetinaNet",
    "fcos": "FCOS",
    "atss": "ATSS",
    "dino": "DINO",
}
MASK_DETECTORS = ("mask-rcnn", "cascade-mask-rcnn")
# Boxes of an image that get masks in a test.
MANY = 5


def parts(leaf: str) -> dict[str, str]:
    """What the name of a config says."""
    match = NAME.fullmatch(leaf)
    assert match, f"{leaf} is not named by the scheme"
    return match.groupdict()


def heads(cfg: Config) -> list[dict]:
    """The heads that tell classes."""
    if "bbox_head" in cfg.model:
        return [cfg.model.bbox_head]
    roi_head = cfg.model.roi_head
    boxes = roi_head.bbox_head if isinstance(roi_head.bbox_head, list) else [roi_head.bbox_head]
    return [*boxes, roi_head.mask_head]


def test_every_operator_has_its_configs() -> None:
    for operator in DENSENET_OPERATORS:
        for slices in (3, 7):
            name = f"{operator}/mask-rcnn_{operator}-densenet121_{slices}x2mm_20e_deeplesion.py"
            assert name in LEAVES
        assert f"{operator}/mask-rcnn_{operator}-densenet-small_7x2mm_500it_synthetic.py" in LEAVES


@pytest.mark.parametrize("backbone", ["r50", "x101-32x4d"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_has_alignshift_and_another_operator(detector: str, backbone: str) -> None:
    tail = "" if detector == "dino" else "-fpn"
    names = (f"{o}/{detector}_{o}-{backbone}{tail}_7x2mm_20e_deeplesion.py" for o in OPERATORS)
    there = [name for name in names if name in LEAVES]
    assert len(there) == 2
    assert there[0].startswith("alignshift/")


@pytest.mark.parametrize("leaf", LEAVES)
def test_builds(leaf: str) -> None:
    cfg = load(leaf)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(model).__name__ == DETECTORS[parts(leaf)["detector"]]
    assert type(model.data_preprocessor).__name__ == "CTDataPreprocessor"
    if "densenet" in leaf:
        assert type(model.neck).__name__ == "SliceCollapseFPN"
        return
    neck = [type(part).__name__ for part in model.neck]
    assert neck == ["SliceCollapse", "ChannelMapper" if "dino" in leaf else "FPN"]
    (converted,) = set(model.backbone.report.converted.values())
    assert converted == OPERATORS[parts(leaf)["folder"]]
    # Every weight is trained: some backbones freeze their first stages in `train`.
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert all(p.requires_grad and id(p) in optimized for p in model.train().parameters())


@pytest.mark.parametrize("leaf", WRAPPED)
def test_operator_is_one_changed_line(leaf: str) -> None:
    operator, backbone = parts(leaf)["folder"], parts(leaf)["backbone"]
    name = leaf.replace(operator, "alignshift")
    cfg, alignshift = load(leaf), load(name)
    assert cfg.model.backbone.operator == {"type": OPERATORS[operator]}
    cfg.model.backbone.operator = alignshift.model.backbone.operator
    assert cfg.model == alignshift.model
    assert cfg.optim_wrapper == alignshift.optim_wrapper
    inner = cfg.model.backbone.backbone
    kind = ("ResNeXt", 101) if backbone.startswith("x101") else ("ResNet", 50)
    assert (inner.type, inner.depth) == kind


@pytest.mark.parametrize("leaf", WRAPPED)
def test_pretrained_2d_weights_are_those_of_the_backbone(leaf: str) -> None:
    inner = Config.fromfile(CONFIGS / leaf).model.backbone.backbone
    names = {"ResNet": "torchvision://resnet50", "ResNeXt": "open-mmlab://resnext101_32x4d"}
    assert inner.init_cfg == {"type": "Pretrained", "checkpoint": names[inner.type]}
    assert resolve_checkpoint(inner.init_cfg.checkpoint).startswith("https://")
    # ImageNet's batch statistics are not those of windowed HU.
    assert (inner.frozen_stages, inner.norm_eval) == (-1, False)


def test_examples_of_the_documentation_build(repo_root: Path, tmp_path: Path) -> None:
    text = (repo_root / "docs/training.md").read_text(encoding="utf-8")
    examples = re.findall(r"```py\n(_base_ = .*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        file = tmp_path / f"example{number}.py"
        example = example.replace('"../', f'"{CONFIGS}/')
        file.write_text(example.replace("pretrained=True", "pretrained=False"))
        cfg = Config.fromfile(file)
        init_default_scope(cfg.default_scope)
        with torch.device("meta"):
            model = MODELS.build(cfg.model)
            maps = model.extract_feat(CTInputs(torch.empty(1, 1, 7, 64, 64), torch.ones(1)))
        assert [tuple(m.shape) for m in maps[:2]] == [(1, 256, 16, 16), (1, 256, 8, 8)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_numbers_of_slices_agree(leaf: str) -> None:
    cfg = load(leaf)
    (num_slices,) = {step["num_slices"] for step in loading(cfg)}
    operator = parts(leaf)["folder"]
    assert parts(leaf)["slices"] == str(num_slices)
    assert len(loading(cfg)) == len(LOADERS)
    if operator in ("a3d", "25d") or leaf in WRAPPED:
        assert cfg.model.backbone.num_slices == num_slices
    neck = cfg.model.neck[0] if leaf in WRAPPED else cfg.model.neck
    assert neck.num_slices == (1 if operator == "25d" else num_slices)


@pytest.mark.parametrize("leaf", LEAVES)
def test_one_class_and_boxes_enough_for_froc(leaf: str) -> None:
    cfg = load(leaf)
    assert [head["num_classes"] for head in heads(cfg)] == [1] * len(heads(cfg))
    test = cfg.model.test_cfg.get("rcnn", cfg.model.test_cfg)
    assert test.max_per_img == 50
    assert test.get("score_thr", 0.0) <= 0.001


@pytest.mark.parametrize("leaf", LEAVES)
def test_masks_are_read_where_they_are_learned(leaf: str) -> None:
    cfg = load(leaf)
    dataset = cfg.train_dataloader.dataset
    (annotations,) = [s for s in dataset.pipeline if s["type"] == "LoadLesionAnnotations"]
    masks = parts(leaf)["detector"] in MASK_DETECTORS
    assert bool(dataset.mask_file) == masks
    assert annotations.get("with_mask", False) == masks
    assert cfg.model.data_preprocessor.get("pad_mask", False) == masks
    if masks:
        assert heads(cfg)[-1].loss_mask.type == "MaskDiceLoss"


@pytest.mark.parametrize("leaf", LEAVES)
def test_only_alignshift_sees_thick_slices_as_they_are(leaf: str) -> None:
    modes = {step.get("interpolate", "thin") for step in loading(load(leaf))}
    assert modes == ({"thin"} if leaf.startswith("alignshift/") else {"always"})
    assert {step["slice_interval"] for step in loading(load(leaf))} == {2.0}


@pytest.mark.parametrize("leaf", LEAVES)
def test_processes_share_their_batch_statistics(leaf: str) -> None:
    assert {"type": "SyncBuffersHook"} in load(leaf).custom_hooks


@pytest.mark.parametrize("leaf", [leaf for leaf in WRAPPED if leaf not in LONG])
def test_gradients_are_clipped_and_rates_are_those_of_the_detector(leaf: str) -> None:
    cfg = load(leaf)
    rates = {"mask-rcnn": 0.02, "cascade-mask-rcnn": 0.02, "dino": 1e-4}
    wrapper = cfg.optim_wrapper
    assert wrapper.optimizer.lr == rates.get(parts(leaf)["detector"], 0.01)
    assert (wrapper.optimizer.type, wrapper.clip_grad.max_norm) == (
        ("AdamW", 0.1) if "dino" in leaf else ("SGD", 35)
    )
    assert (cfg.train_cfg.max_epochs, cfg.auto_scale_lr.base_batch_size) == (20, 8)


def test_transformer_backbone_learns_more_slowly_but_for_new_weights() -> None:
    cfg = load("a3d/dino_a3d-r50_7x2mm_20e_deeplesion.py")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    rates = {id(group["params"][0]): group["lr"] for group in groups}
    for name, parameter in model.named_parameters():
        slow = name.startswith("backbone.") and "adaptive_align_weights" not in name
        assert rates[id(parameter)] == pytest.approx(1e-5 if slow else 1e-4), name


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
    resizes = [s for name in LOADERS for s in cfg[name].dataset.pipeline if s["type"] == "ResizeCT"]
    assert [resize["scale"] for resize in resizes] == [(512, 512)] * 3


def test_every_operator_has_a_long_recipe() -> None:
    assert {leaf.partition("/")[0] for leaf in LONG} == set(OPERATORS)


@pytest.mark.parametrize("leaf", LONG)
def test_long_recipe_differs_in_training_alone(leaf: str) -> None:
    # ACS and I3D have no recipe of the papers: theirs is TSM's, but for the backbone's operator.
    short = leaf.replace("_36e_", "_20e_")
    short = short.replace("acs", "tsm").replace("i3d", "tsm")
    cfg, papers = load(leaf), load(short)
    if short != leaf.replace("_36e_", "_20e_"):
        papers.model.backbone = cfg.model.backbone
    assert cfg.model == papers.model
    size = {s["scale"] for s in cfg.test_dataloader.dataset.pipeline if s["type"] == "ResizeCT"}
    assert size == {(512, 512)}
    (resize,) = [s for s in cfg.train_dataloader.dataset.pipeline if "Resize" in s["type"]]
    assert resize["type"] == "RandomStepResize"
    sides = [side for scale in resize["scales"] for side in scale]
    assert (min(sides), max(sides)) == (384, 640)
    assert not any(side % 32 for side in sides)


@pytest.mark.parametrize("leaf", ["a3d/mask-rcnn_a3d-densenet121_7x2mm_36e_deeplesion.py"])
def test_long_recipe_decays_no_norms_biases_and_mixing(leaf: str) -> None:
    cfg = load(leaf)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    decays = {id(group["params"][0]): group["weight_decay"] for group in groups}
    for name, parameter in model.named_parameters():
        free = parameter.ndim == 1 or "adaptive_align_weights" in name
        assert decays[id(parameter)] == (0 if free else 0.05), name


@pytest.mark.parametrize("epochs", [1, 2, 36])
def test_long_schedule_is_as_long_as_the_run(epochs: int) -> None:
    length, rate = 10, 2e-4
    cfg = load(LONG[0])
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=rate)
    schedulers = [
        PARAM_SCHEDULERS.build(
            {"by_epoch": True, "end": epochs, **copy.deepcopy(scheduler)},
            default_args={"optimizer": optimizer, "epoch_length": length},
        )
        for scheduler in cfg.param_scheduler
    ]
    rates = []
    for _ in range(epochs * length):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    steps = np.arange(epochs * length)
    warm_up = np.minimum(1, 0.01 + 0.99 * steps / (length - 1))
    cosine = (1 + np.cos(np.pi * steps / (epochs * length))) / 2
    np.testing.assert_allclose(rates, rate * warm_up * cosine, rtol=1e-6)


@pytest.mark.parametrize("leaf", PAPERS_DETECTOR)
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


@pytest.mark.parametrize("operator", DENSENET_OPERATORS)
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


@pytest.mark.parametrize("detector", DETECTORS)
def test_full_size_config_predicts(detector: str) -> None:
    torch.manual_seed(0)
    names = [x for x in WRAPPED if x.startswith(f"alignshift/{detector}_alignshift-r50")]
    (leaf,) = [name for name in names if name not in LONG]
    cfg = load(leaf)
    if "roi_head" in cfg.model:
        # As above: not what the network is made of, but what takes most time to draw.
        for head in heads(cfg)[:-1]:
            head.fc_out_channels = 64
        # And masks of 50 boxes, what it computes longest.
        cfg.model.test_cfg.rcnn.max_per_img = MANY
    if detector == "dino":
        cfg.model.num_queries = 60  # an image so small has fewer places than 900
    model = MODELS.build(cfg.model).eval()
    model.init_weights()
    with torch.no_grad():
        samples = model.test_step(batch(num_slices=7))
    assert len(samples) == 2
    for sample in samples:
        found = sample.pred_instances
        number = len(found)
        assert 0 <= number <= (MANY if detector in MASK_DETECTORS else 50)
        assert found.bboxes.shape == (number, 4)
        assert found.scores.shape == (number,)
        assert torch.isfinite(found.bboxes).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert (found.labels == 0).all()
        assert ("masks" in found) == (detector in MASK_DETECTORS)
        if "masks" in found:
            assert found.masks.shape == (number, SIZE, SIZE)
