"""Published files from the command line: converted, evaluated, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.engine.config import load_config
from tests.parity.detectors import (
    BACKBONES,
    SOME_MM,
    Outputs,
    golden_inputs,
    golden_masks,
    published_state_dict,
)
from tests.parity.test_detector_goldens import DETECTORS, SUFFIXES, differences
from tests.tools.running import run_tool
from tools.convert_checkpoint import main

IMAGES = 2
META = {"CLASSES": "lesion", "epoch": 20, "iter": 100, "mmdet_version": "1.0rc1+unknown"}


def published_file(goldens: Path, name: str) -> dict:
    """What the published file of a golden detector would hold."""
    values = json.loads((goldens / f"detectors/{name}/config_v1.json").read_text())
    text = "/mconfigs/densenet.py\n" + "\n".join(f"{k} = {v!r}" for k, v in values.items())
    state = published_state_dict(goldens, name)
    return {"meta": {"config": text, **META}, "state_dict": state}


@pytest.fixture(scope="module", params=list(BACKBONES))
def name(request: pytest.FixtureRequest) -> str:
    """Name of a golden detector."""
    return request.param


@contextmanager
def converted(goldens: Path, name: str, root: Path) -> Iterator[Path]:
    """A folder with ``published.pth``, converted to ``ours.pth`` and ``ours.py``."""
    torch.save(published_file(goldens, name), root / "published.pth")
    result = run_tool("tools/convert_checkpoint.py", "published.pth", "ours.pth", cwd=root)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "0 fields not mapped" in result.stdout
    yield root
    # Some hundred MB each.
    for file in root.glob("*.pth"):
        file.unlink()


@pytest.fixture(scope="module")
def folder(name: str, goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of each network."""
    with converted(goldens, name, tmp_path_factory.mktemp(name)) as root:
        yield root


def test_weights_are_those_published(name: str, folder: Path, goldens: Path) -> None:
    published = published_state_dict(goldens, name)
    state = read_checkpoint(folder / "ours.pth")["state_dict"]
    for part in ("weight", "bias"):
        scores = published[f"bbox_head.fc_cls.{part}"]
        deltas = published[f"bbox_head.fc_reg.{part}"]
        logits = published[f"mask_head.conv_logits.{part}"]
        head = "roi_head.bbox_head"
        assert torch.equal(state[f"{head}.fc_cls.{part}"], torch.stack([scores[1], scores[0]]))
        assert torch.equal(state[f"{head}.fc_reg.{part}"], deltas[4:8])
        assert torch.equal(state[f"roi_head.mask_head.conv_logits.{part}"], logits[1:2])
        for ours, theirs in enumerate((2, 3, 4)):
            lateral = published[f"backbone.lateral{theirs}.{part}"]
            assert torch.equal(state[f"neck.laterals.{ours}.{part}"], lateral)
    kept = [key for key in published if key.startswith(("backbone.dense", "rpn_head."))]
    assert len(kept) > 500
    assert all(torch.equal(state[key], published[key]) for key in kept)


def test_config_gives_the_published_detections(name: str, folder: Path, goldens: Path) -> None:
    cfg = load_config(str(folder / "ours.py"), None, None)
    init_default_scope(cfg.default_scope)
    detector = MODELS.build(cfg.model).eval()
    detector.load_state_dict(read_checkpoint(folder / "ours.pth")["state_dict"])
    suffix = SUFFIXES.get(name, [""])[-1]
    outputs = Outputs(detector, golden_inputs(goldens, float(suffix[2:] or SOME_MM)))
    with np.load(goldens / "detectors" / name / "outputs.npz") as stored:
        golden = {
            key.removesuffix(suffix): torch.from_numpy(stored[key])
            for key in stored
            if key.endswith(suffix)
        }
    found = differences(outputs, golden, golden_masks(goldens, name, suffix))
    assert {kind for kind in found if found[kind] > DETECTORS.limits[kind]} == set()


def test_way_back_is_exact(name: str, folder: Path, goldens: Path) -> None:
    assert main([str(folder / "ours.pth"), str(folder / "back.pth"), "--to-reference"]) == 0
    published, back = published_file(goldens, name), torch.load(folder / "back.pth")
    assert back["meta"] == published["meta"]
    assert list(back["state_dict"]) == list(published["state_dict"])
    for key, tensor in published["state_dict"].items():
        restored = back["state_dict"][key]
        assert restored.dtype == tensor.dtype
        assert restored.numpy().tobytes() == tensor.numpy().tobytes(), key


def test_from_the_command_line_to_froc(goldens: Path, shared_data: Path, tmp_path: Path) -> None:
    with converted(goldens, "align3", tmp_path) as root:
        result = run_tool(
            "tools/test.py", "ours.py", "ours.pth", "--data-root", shared_data / "deeplesion_mini",
            "--work-dir", "froc", "--cfg-options", f"test_dataloader.dataset.indices={IMAGES}",
            cwd=root,
        )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    froc = json.loads((tmp_path / "froc/froc.json").read_text())
    images = json.loads((tmp_path / "froc/predictions.json").read_text())["images"]
    assert len(images) == IMAGES
    assert all(0 < len(image["bboxes"]) <= 50 for image in images)
    assert all(len(image["masks"]) == len(image["bboxes"]) for image in images)
    assert 0 <= froc["metrics"]["mean"] <= 1
