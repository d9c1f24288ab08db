"""Pretrained weights by file and by name."""

from __future__ import annotations

from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
import torchvision
from torch import nn

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.models.pretrained import (
    is_pretrained,
    load_pretrained,
    read_weights,
    resolve_checkpoint,
)
from tests.deeplesion.models.test_slice_backbone import build


def test_names_become_addresses() -> None:
    assert resolve_checkpoint("torchvision://resnet50").startswith("https://")
    assert resolve_checkpoint("open-mmlab://resnext101_32x4d").endswith(".pth")
    assert resolve_checkpoint("weights.pth") == "weights.pth"
    with pytest.raises(ValueError, match=r"followed by one of .*resnext101_32x4d.*; got 'resnet'"):
        resolve_checkpoint("open-mmlab://resnet")


@pytest.mark.parametrize(
    ("init_cfg", "expected"),
    [({"type": "Pretrained"}, True), ({"type": "Kaiming"}, False), ([], False), (None, False)],
)
def test_what_is_pretrained(init_cfg: object, expected: bool) -> None:
    assert is_pretrained(init_cfg) is expected


def test_weights_of_every_wrapping(tmp_path: Path) -> None:
    weights = nn.Linear(2, 2).state_dict()
    for content in (weights, {"state_dict": weights}, {"model": weights}):
        torch.save(content, tmp_path / "weights.pth")
        assert torch.equal(read_weights(str(tmp_path / "weights.pth"))["bias"], weights["bias"])


@pytest.fixture
def moco(tmp_path: Path) -> Path:
    """Weights of two networks, of which the first that fit would be the wrong ones."""
    weights = torchvision.models.resnet18().state_dict()
    both = {f"encoder_k.{k}": torch.zeros_like(v) for k, v in weights.items()}
    both |= {f"encoder_q.{k}": v for k, v in weights.items()}
    torch.save({"state_dict": both}, tmp_path / "moco.pth")
    return tmp_path / "moco.pth"


@pytest.mark.parametrize("prefix", ["encoder_q", "encoder_q."])
def test_prefix_says_which_weights(prefix: str, moco: Path) -> None:
    settings = {"type": "Pretrained", "checkpoint": str(moco), "map_location": "cpu"}
    backbone = build(init_cfg={**settings, "prefix": prefix})
    backbone.init_weights()
    expected = read_weights(str(moco))["encoder_q.layer4.1.conv2.weight"]
    assert torch.equal(backbone.state_dict()["layer4.1.conv2.weight"], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prefix": "encoder_x"}, r"no weight begins with its prefix 'encoder_x\.', but e\.g\. "),
        ({}, "none fits"),
        ({"checkpoint": "none.pth"}, "checkpoint none.pth does not exist"),
        ({"checkpoint": "torchvision://nosuch"}, "nosuch"),
        ({"checkpoint": "open-mmlab://nosuch"}, "got 'nosuch'"),
        ({"checkpoint": None}, "checkpoint must be text, got None"),
        ({"prefix": 5}, "prefix must be text, got 5"),
        (
            {"prefixes": 5},
            "it must have type, checkpoint, prefix, map_location alone, got prefixes",
        ),
    ],
)
def test_mistakes_name_their_place(settings: dict, message: str, moco: Path) -> None:
    backbone = build(init_cfg={"type": "Pretrained", "checkpoint": str(moco), **settings})
    place = r"^model\.backbone\.backbone\.init_cfg: "
    with pytest.raises(CheckpointError, match=f"{place}.*{message}") as error:
        backbone.init_weights()
    assert "\n" not in str(error.value)


def test_without_a_connection_it_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: str) -> dict:
        raise ConnectionError(f"could not download {source}")

    monkeypatch.setattr("deeplesion.models.pretrained.read_state_dict", fail)
    init_cfg = {"checkpoint": "https://example.org/weights.pth"}
    with pytest.raises(ConnectionError, match=r"or train without: .*backbone\.init_cfg=None"):
        load_pretrained(nn.Linear(2, 2), init_cfg)
    with pytest.raises(ConnectionError, match=r"--cfg-options model\.backbone\.backbone\.init_cfg"):
        build(init_cfg={"type": "Pretrained", "checkpoint": "https://a.b/c.pth"}).init_weights()
