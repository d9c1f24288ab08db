"""Pretrained weights by file and by name."""

from __future__ import annotations

from pathlib import Path

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
import pytest
import torch
from torch import nn

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


def test_without_a_connection_it_says_how_to_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: str) -> dict:
        raise ConnectionError(f"could not download {source}")

    monkeypatch.setattr("deeplesion.models.pretrained.read_state_dict", fail)
    with pytest.raises(ConnectionError, match=r"or train without: .*backbone\.init_cfg=None"):
        load_pretrained(nn.Linear(2, 2), "https://example.org/weights.pth")
    with pytest.raises(ConnectionError, match=r"--cfg-options model\.backbone\.backbone\.init_cfg"):
        build(init_cfg={"type": "Pretrained", "checkpoint": "https://a.b/c.pth"}).init_weights()
