"""The gradient of two processes is that of one with the same batch."""

from __future__ import annotations

import copy
from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import Tensor

from deeplesion.engine.distributed import CTDistributedDataParallel
from deeplesion.models.inputs import CTInputs
from deeplesion.models.joint_losses import EPS, joint_divisor, joint_factors
from tests.configs.shrinking import load, shrunk, training_batch
from tests.processes import run_processes

SMALL = "alignshift/mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py"
IMAGES = 4
# Where mmdetection adds its EPS to each process' share of a count, and not to the whole.
APPROXIMATE = 1e-6
EXACT = 1e-9


def small() -> Config:
    """Mask R-CNN on fused dense blocks of one layer."""
    cfg = load(SMALL)
    cfg.model.backbone.block_config = (1, 1, 1)
    cfg.model.neck.in_channels = [32, 32, 32]
    return cfg


def slim(leaf: str) -> Config:
    """A detector on a ResNet-18, at an eighth of its widths."""
    cfg = shrunk(load(leaf))
    cfg.model.backbone.backbone.depth = 18
    necks = cfg.model.neck
    inside = [8, 16, 32, 64]
    necks[0].in_channels = inside
    necks[1].in_channels = inside[necks[0].get("start_level", 0) :]
    return cfg


CONFIGS = {
    "mask-rcnn": (small, EXACT),
    "retinanet": (
        lambda: slim("acs/retinanet_acs-r50-fpn_7x2mm_20e_deeplesion.py"),
        EXACT,
    ),
    "atss": (
        lambda: slim("alignshift/atss_alignshift-r50-fpn_7x2mm_20e_deeplesion.py"),
        APPROXIMATE,
    ),
    "fcos": (lambda: slim("i3d/fcos_i3d-r50-fpn_7x2mm_20e_deeplesion.py"), APPROXIMATE),
}


def gradients(cfg: Config, data: dict, processes: int = 1) -> dict[str, Tensor]:
    """Gradients of one step in float64, and the running statistics after it.

    Args:
        cfg: Of the detector.
        data: The whole batch; process r takes images r, r + processes, ...
        processes: How many share it.
    """
    rank = dist.get_rank() if processes > 1 else 0
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train().double()
    # As in training, where no two processes draw the same.
    torch.manual_seed(rank)
    own = {name: values[rank::processes] for name, values in copy.deepcopy(data).items()}
    ready = model.data_preprocessor(own, training=True)
    ready["inputs"] = CTInputs(*(tensor.double() for tensor in ready["inputs"]))
    network = CTDistributedDataParallel(model) if processes > 1 else model
    total, _ = model.parse_losses(network(**ready, mode="loss"))
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    found = {name: p.grad for name, p in model.named_parameters()}
    return found | {name: value for name, value in model.named_buffers() if "running" in name}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference of all gradients, relative to that of the gradients."""
    assert one.keys() == other.keys()
    pairs = [(one[name].flatten(), other[name].flatten()) for name in one]
    first, second = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    return float((first - second).norm() / first.norm())


def emptied(data: dict, images: list[int]) -> dict:
    """A batch some of whose images have no lesion."""
    data = copy.deepcopy(data)
    for image in images:
        sample = data["data_samples"][image]
        sample.gt_instances = sample.gt_instances[torch.zeros(0, dtype=torch.long)]
    return data


@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_give_the_gradient_of_one(name: str, synthetic_root: Path) -> None:
    make, tolerance = CONFIGS[name]
    cfg = make()
    np.random.seed(0)
    data = training_batch(cfg, synthetic_root, IMAGES)
    if "roi_head" not in cfg.model:
        # One process has none; for detectors with masks that is tested below.
        data = emptied(data, [1, 3])
    alone = gradients(cfg, data)
    together = run_processes(gradients, 2, cfg, data, 2)
    assert difference(together[0], together[1]) == 0
    assert difference(alone, together[0]) < tolerance
    if tolerance == EXACT:
        worst = {key: difference({key: alone[key]}, {key: together[0][key]}) for key in alone}
        assert max(worst.values()) < tolerance, max(worst, key=lambda key: worst[key])


@pytest.mark.parametrize("empty", [[1, 3], [0, 1, 2, 3]], ids=["of one process", "of both"])
def test_images_without_lesions_leave_no_weight_without_a_gradient(
    empty: list[int], synthetic_root: Path
) -> None:
    # Else a process would wait for ever for the gradients of the mask head of the other.
    cfg = small()
    np.random.seed(0)
    data = emptied(training_batch(cfg, synthetic_root, IMAGES), empty)
    together = run_processes(gradients, 2, cfg, data, 2)
    assert difference(gradients(cfg, data), together[0]) < EXACT


@pytest.mark.parametrize(
    "leaf",
    [
        "alignshift/mask-rcnn_alignshift-r50-fpn_7x2mm_20e_deeplesion.py",
        "a3d/cascade-mask-rcnn_a3d-r50-fpn_7x2mm_20e_deeplesion.py",
        "a3d/dino_a3d-r50_7x2mm_20e_deeplesion.py",
    ],
)
def test_no_detector_needs_to_look_for_unused_weights(leaf: str, synthetic_root: Path) -> None:
    cfg = slim(leaf)
    model = MODELS.build(cfg.model).train()
    data = emptied(training_batch(cfg, synthetic_root), [0, 1])
    ready = model.data_preprocessor(data, training=True)
    total, _ = model.parse_losses(model(**ready, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_one_process_divides_as_ever() -> None:
    assert joint_divisor(7) == 7
    assert joint_factors([7, 0], EPS) == [1, 1]


def shares(counts: list[list[float]]) -> tuple[float, list[float]]:
    """Divisor and factors of a process."""
    own = counts[dist.get_rank()]
    return joint_divisor(own[0]), joint_factors(own)


def test_shares_of_processes_by_hand() -> None:
    (divisor, factors), (other_divisor, others) = run_processes(shares, 2, [[1, 0, 0], [5, 4, 0]])
    # The mean of 1 and 5 samples.
    assert divisor == other_divisor == pytest.approx(3)
    # A mean over 1 of 6 samples counts a sixth, and is halved when processes are averaged.
    assert factors == pytest.approx([2 / 6, 2 / 4, 2])
    assert others == pytest.approx([10 / 6, 2, 2])


def test_box_head_without_a_roi_keeps_its_layers_in_the_graph() -> None:
    head = MODELS.build(
        {
            "type": "JointShared2FCBBoxHead",
            "in_channels": 1,
            "fc_out_channels": 2,
            "roi_feat_size": 1,
            "num_classes": 1,
        }
    )
    scores, boxes = head(torch.zeros(0, 1, 1, 1))
    none = torch.zeros(0)
    targets = none.long(), none, torch.zeros(0, 4), torch.zeros(0, 4)
    losses = head.loss(scores, boxes, torch.zeros(0, 5), *targets)
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
