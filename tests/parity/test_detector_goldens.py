"""Whole detectors with the legacy numerics against the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deeplesion.legacy.keys import current_name
from deeplesion.models.legacy.overlaps import box_overlaps
from tests.parity.detectors import (
    BACKBONES,
    SOME_MM,
    Outputs,
    build_detector,
    golden_inputs,
    golden_masks,
    load_rule,
    with_scores,
)
from tests.parity.page import Row, Table

SUFFIXES = {"align3": ["_t1", "_t3", "_t5"]}
# Detections below need no counterpart.
SCORE = 0.05
DETECTORS = Table(
    "detectors",
    "network",
    {
        "feature map": 1e-4,
        "RPN scores": 1e-4,
        "RPN deltas": 1e-4,
        "proposals (px)": 1e-2,
        "boxes (px)": 1e-2,
        "1 - IoU": 1e-2,
        "scores": 1e-3,
        "1 - Dice": 1e-2,
    },
)
# Through 88 convolutions in float32 a ReLU here and there opens on one side only: the published
# gradients are as far from those of float64 as ours are.
GRADIENTS = Table(
    "gradients", "network", {"of all": 1e-3, "median": 1e-3, "largest": 5e-3, "sum, largest": 5e-3}
)


@pytest.fixture(scope="module", params=list(BACKBONES))
def name(request: pytest.FixtureRequest) -> str:
    """Name of a golden detector."""
    return request.param


@pytest.fixture(scope="module")
def detector(name: str, repo_root: Path, goldens: Path) -> nn.Module:
    """The detector; one is kept at a time."""
    return build_detector(repo_root, goldens, name)


def test_detector(name: str, detector: nn.Module, goldens: Path) -> None:
    rows = {}
    for suffix in SUFFIXES.get(name, [""]):
        mm = float(suffix.removeprefix("_t") or SOME_MM)
        outputs = Outputs(detector, golden_inputs(goldens, mm))
        with np.load(goldens / "detectors" / name / "outputs.npz") as stored:
            golden = {
                key.removesuffix(suffix): torch.from_numpy(stored[key])
                for key in stored
                if key.endswith(suffix)
            }
        masks = golden_masks(goldens, name, suffix)
        label = f"{name}, {mm:g} mm" if suffix else name
        rows[label] = differences(outputs, golden, masks)
    DETECTORS.check(rows)


def differences(outputs: Outputs, golden: dict[str, Tensor], masks: Tensor) -> Row:
    """Largest differences of a detector; every golden detection has its counterpart."""
    maps = [
        float((value - golden[key]).abs().max() / golden[key].abs().max())
        for key, value in outputs.maps.items()
    ]
    assert outputs.proposals.shape == golden["proposals"].shape
    found = with_scores(outputs.found)
    above = golden["det_bboxes"][:, 4] >= SCORE
    expected = golden["det_bboxes"][above]
    overlaps, partner = box_overlaps(expected[:, :4], found[:, :4]).max(dim=1)
    assert len(partner.unique()) == len(expected)
    # A golden one that lies on the limit may have its counterpart just below it.
    assert set((found[:, 4] >= SCORE).nonzero().flatten().tolist()) <= set(partner.tolist())
    difference = (found[partner] - expected).abs()
    values = (
        *maps,
        distance_of_sets(outputs.proposals, golden["proposals"]),
        float(difference[:, :4].max()),
        float(1 - overlaps.min()),
        float(difference[:, 4].max()),
        float(1 - dice(outputs.found.masks[partner], masks[above]).min()),
    )
    return dict(zip(DETECTORS.limits, values, strict=True))


def distance_of_sets(proposals: Tensor, expected: Tensor) -> float:
    """Largest difference to the counterpart, of 99 % of the proposals of both sides.

    Scores that rounding alone tells apart (it depends on the processor and its threads) change
    places, and of two such ones the other may be what NMS keeps.
    """
    differences = (proposals[:, None] - expected).abs().amax(dim=2)
    nearest = torch.cat([differences.amin(dim=0), differences.amin(dim=1)])
    return float(nearest.quantile(0.99))


def dice(masks: Tensor, expected: Tensor) -> Tensor:
    """Dice ``(n,)`` of masks ``(n, H, W)``; 1 where both are empty."""
    sizes = masks.sum((1, 2)) + expected.sum((1, 2))
    return torch.where(sizes == 0, 1.0, 2 * (masks & expected).sum((1, 2)) / sizes)


def test_gradients_of_backbone_and_neck(name: str, detector: nn.Module, goldens: Path) -> None:
    detector.zero_grad()
    feat = detector.extract_feat(golden_inputs(goldens, SOME_MM))[0]
    probe = load_rule(goldens).rule_tensor("grad_probe", tuple(feat.shape), 1.0)
    (feat * torch.from_numpy(probe)).mean().backward()
    with np.load(goldens / "detectors" / name / "backbone_grads.npz") as stored:
        published = {current_name(key): key for key in stored}
        gradients = {
            published[key]: parameter.grad
            for key, parameter in detector.named_parameters()
            if key.startswith(("backbone.", "neck."))
        }
        assert set(stored) == gradients.keys()
        golden = torch.from_numpy(np.stack([stored[key] for key in gradients])).double()
    norms = torch.stack([grad.norm() for grad in gradients.values()]).double()
    sums = torch.stack([grad.sum() for grad in gradients.values()]).double()
    # A sum cancels: its error is measured against what could have cancelled.
    sizes = torch.tensor([grad.numel() for grad in gradients.values()]).double()
    of_norm = (norms / golden[:, 0] - 1).abs()
    of_sum = (sums - golden[:, 1]).abs() / (golden[:, 0] * sizes.sqrt())
    whole = float((norms.norm() / golden[:, 0].norm() - 1).abs())
    values = (whole, float(of_norm.median()), float(of_norm.max()), float(of_sum.max()))
    GRADIENTS.check({name: dict(zip(GRADIENTS.limits, values, strict=True))})
    detector.zero_grad()


def test_page_has_every_network() -> None:
    labels = [
        f"{name}, {suffix.removeprefix('_t')} mm" if suffix else name
        for name in BACKBONES
        for suffix in SUFFIXES.get(name, [""])
    ]
    assert list(DETECTORS.on_page()) == labels
    assert list(GRADIENTS.on_page()) == list(BACKBONES)
