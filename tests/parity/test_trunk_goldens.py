"""Trunk and neck against the stride-4 map measured on the published detectors."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from alignshift import TruncatedDenseNet3d
from alignshift.weights import load_2d_weights

NUM_SLICES = 3
TOLERANCE = 1e-4  # of the largest value of the map
GRADIENT_TOLERANCE = 5e-3  # of a parameter's gradient norm, through 88 convolutions in float32
TRUNKS: dict[str, dict[str, Any]] = {
    "align3": {"operator": "AlignShiftConv"},
    "tsm3": {"operator": "TSMConv"},
    "a3d3": {"operator": "A3DConv", "operator_kwargs": {"dimension": NUM_SLICES}},
    "25d3": {"operator": None, "in_channels": NUM_SLICES},
}
# The published A3D has mixing weights where nothing is mixed.
UNUSED = ("conv0.adaptive_align_weights", "transition")
FEATURES = [("align3", 1.0), ("align3", 3.0), ("align3", 5.0), ("tsm3", None), ("a3d3", None)]


@pytest.fixture(scope="module")
def rule(goldens: Path) -> ModuleType:
    """The module beside the goldens that makes their weights and input."""
    spec = importlib.util.spec_from_file_location("rule", goldens / "weights_by_rule.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def published_weights(rule: ModuleType, folder: Path) -> Mapping[str, Tensor]:
    """The published backbone's state dict, whose tensors are not to be changed."""
    state = rule.published_state_dict(folder)
    return {
        key.removeprefix("backbone."): torch.from_numpy(np.asarray(value))
        for key, value in state.items()
        if key.startswith("backbone.")
    }


def is_neck(name: str) -> bool:
    """Whether a published backbone parameter belongs to the neck of today."""
    return name.startswith(("reductionz", "lateral"))


def neck(maps: list[Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Collapse the stack, laterals, top-down sums: one map (N, 512, H / 4, W / 4)."""
    top: Tensor | None = None
    for level in (3, 2, 1):
        x = maps[level - 1]
        name = f"reductionz{level}.reduction_z_conv.weight"
        x = F.conv3d(x, weights[name]).squeeze(2) if name in weights else x.squeeze(2)
        lateral = f"lateral{level + 1}"
        x = F.conv2d(x, weights[f"{lateral}.weight"], weights[f"{lateral}.bias"])
        top = x if top is None else x + F.interpolate(top, scale_factor=2.0, mode="nearest")
    assert top is not None
    return top


def load(name: str, weights: Mapping[str, Tensor]) -> TruncatedDenseNet3d:
    """The trunk of a golden detector in evaluation mode; every tensor finds its place."""
    trunk = TruncatedDenseNet3d(**TRUNKS[name]).eval()
    report = load_2d_weights(trunk, weights)
    assert not report.missing
    unexpected = [key for key in report.skipped if not is_neck(key)]
    assert all(key.startswith(UNUSED) and "adaptive_align" in key for key in unexpected)
    return trunk


def features(name: str, mm: float | None, goldens: Path, rule: ModuleType) -> Any:
    """The trunk and the whole stride-4 map of a golden detector."""
    weights = published_weights(rule, goldens / "detectors" / name)
    trunk = load(name, weights)
    volume = torch.from_numpy(rule.input_volume(goldens / "detectors", NUM_SLICES))[None, None]
    if name == "25d3":
        volume = volume.transpose(1, 2)
    return trunk, neck(trunk(volume, None if mm is None else torch.tensor([mm])), weights)


@pytest.mark.parametrize(("name", "mm"), [*FEATURES, ("25d3", None)])
def test_features(name: str, mm: float | None, goldens: Path, rule: ModuleType) -> None:
    with torch.no_grad():
        _, feat = features(name, mm, goldens, rule)
    suffix = "" if mm is None else f"_t{mm:.0f}"
    with np.load(goldens / "detectors" / name / "outputs.npz") as stored:
        expected = torch.from_numpy(stored[f"feat{suffix}"])
    error = (feat[0, ::8, ::4, ::4] - expected).abs().max() / expected.abs().max()
    assert error < TOLERANCE, f"{error:.2e}"


@pytest.mark.parametrize(
    ("name", "mm"), [("align3", 3.0), ("tsm3", None), ("a3d3", None), ("25d3", None)]
)
def test_gradients(name: str, mm: float | None, goldens: Path, rule: ModuleType) -> None:
    trunk, feat = features(name, mm, goldens, rule)
    probe = torch.from_numpy(rule.rule_tensor("grad_probe", tuple(feat.shape), 1.0))
    (feat * probe).mean().backward()
    with np.load(goldens / "detectors" / name / "backbone_grads.npz") as stored:
        expected = {key.removeprefix("backbone."): stored[key] for key in stored}
    for key, parameter in trunk.named_parameters():
        assert parameter.grad is not None
        norm, total = (float(value) for value in expected[key])
        assert abs(float(parameter.grad.norm()) - norm) < GRADIENT_TOLERANCE * norm, key
        # The sum cancels: its error is measured against what could have cancelled.
        scale = norm * parameter.numel() ** 0.5
        assert abs(float(parameter.grad.sum()) - total) < GRADIENT_TOLERANCE * scale, key
