"""Importing ``deeplesion`` has every component found by name, at little cost and in silence."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("module", ["deeplesion", "deeplesion.evaluation.froc"])
def test_import_brings_no_more_than_the_registries(module: str, repo_root: Path) -> None:
    code = f"""
import sys, mmdet.registry
before = set(sys.modules)
import {module}
assert not {{"torch", "torchvision", "mmdet.models"}} & (set(sys.modules) - before)
"""
    command = [sys.executable, "-W", "error::UserWarning:deeplesion", "-c", code]
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# Runs each piece of code in a fork that has imported torchvision, which takes long, and no mmdet.
EACH_IN_A_FORK = """
import json, os, sys, tempfile, traceback
import torchvision.ops
said = []
for code in json.loads(sys.argv[1]):
    with tempfile.TemporaryFile("w+") as file:
        if not (pid := os.fork()):
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
            try:
                exec(code, {})
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush(), sys.stderr.flush(), os._exit(0)
        os.waitpid(pid, 0)
        file.seek(0)
        said.append(file.read())
print(json.dumps(said))
"""
USES = {
    "a registry is asked": """
from mmdet.registry import MODELS
import deeplesion
assert MODELS.get("SliceBackbone") and MODELS.get("MaskRCNN")
""",
    "mmengine's registry is asked": """
from mmengine.registry import HOOKS, MODEL_WRAPPERS
import deeplesion
assert MODEL_WRAPPERS.get("CTDistributedDataParallel")
assert HOOKS.get("mmdet.CTVisualizationHook")
""",
    "a registry was asked before": """
from mmengine.registry import METRICS
assert METRICS.get("nothing") is None
import deeplesion, mmdet.registry
assert "SliceBackbone" in mmdet.registry.MODELS.module_dict
""",
    "mmdetection is imported": """
import deeplesion, mmdet.models
from mmdet.registry import MODELS
assert MODELS.get("SliceBackbone")
""",
    "our modules are imported": "import deeplesion.datasets.deeplesion, deeplesion.inference",
}


@pytest.fixture(scope="module")
def said(repo_root: Path) -> dict[str, str]:
    """What each use printed: nothing, or why it failed."""
    command = [sys.executable, "-c", EACH_IN_A_FORK, json.dumps(list(USES.values()))]
    result = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=True)
    return dict(zip(USES, json.loads(result.stdout), strict=True))


@pytest.mark.parametrize("use", USES)
def test_components_are_found_in_silence(use: str, said: dict[str, str]) -> None:
    assert said[use] == ""
