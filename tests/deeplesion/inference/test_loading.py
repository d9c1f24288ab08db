"""Detectors from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.config import UsageError
from deeplesion.inference.loading import build_detector, choose_device, read_config
from tests.deeplesion.inference.blobs import write_blob_detector

CPU = torch.device("cpu")


def test_builds_a_detector_that_does_not_learn(tmp_path: Path) -> None:
    config, checkpoint = write_blob_detector(tmp_path)
    model = build_detector(read_config(config), checkpoint, CPU)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.backbone.conv0.weight[0].sum() == pytest.approx(1)


def test_what_cannot_be_built(tmp_path: Path) -> None:
    config, checkpoint = write_blob_detector(tmp_path)
    cfg = read_config(config)
    with pytest.raises(UsageError, match=r"checkpoint none.pth does not exist"):
        build_detector(cfg, "none.pth", CPU)
    with pytest.raises(UsageError, match="has no model"):
        build_detector(Config({}), checkpoint, CPU)
    (tmp_path / "bad.pth").write_text("nothing")
    with pytest.raises(CheckpointError, match=r"bad.pth is torn or no checkpoint"):
        build_detector(cfg, tmp_path / "bad.pth", CPU)


def test_configs_whose_parts_differ_are_refused(tmp_path: Path) -> None:
    cfg = read_config(write_blob_detector(tmp_path)[0])
    cfg.model.neck.num_slices = 5
    with pytest.raises(UsageError, match="num_slices must be odd and the same everywhere"):
        read_config(cfg)
    with pytest.raises(UsageError, match=r"config none.py does not exist"):
        read_config("none.py")


def test_devices() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device(None).type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="device abacus cannot be used"):
        choose_device("abacus")
