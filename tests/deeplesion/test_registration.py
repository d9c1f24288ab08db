"""Importing ``deeplesion`` registers every component, and says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mmdet.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS, TRANSFORMS, Registry

import deeplesion  # noqa: F401

COMPONENTS = {
    "CTDataPreprocessor": MODELS,
    "DenseNetCustomTrunc": MODELS,
    "DenseNetCustomTrunc3dA3D": MODELS,
    "DenseNetCustomTrunc3dAlign": MODELS,
    "DenseNetCustomTrunc3dTSM": MODELS,
    "SliceCollapse": MODELS,
    "SliceCollapseFPN": MODELS,
    "MaskDiceLoss": MODELS,
    "DeepLesionDataset": DATASETS,
    "LoadCTSlices": TRANSFORMS,
    "LoadLesionAnnotations": TRANSFORMS,
    "WindowCT": TRANSFORMS,
    "RandomCTAffine": TRANSFORMS,
    "FROCMetric": METRICS,
    "CTVisualizationHook": HOOKS,
    "BFloat16OptimWrapper": OPTIM_WRAPPERS,
}


@pytest.mark.parametrize(("name", "registry"), COMPONENTS.items())
def test_registered(name: str, registry: Registry) -> None:
    assert registry.get(name) is not None


def test_import_is_silent(repo_root: Path) -> None:
    command = [sys.executable, "-W", "error::UserWarning:deeplesion", "-c", "import deeplesion"]
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
