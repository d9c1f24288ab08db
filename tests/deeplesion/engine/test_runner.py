"""Checkpoints into a running Runner."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from deeplesion.engine.checkpoint import CheckpointError
from deeplesion.engine.runner import CTRunner


class Linear(BaseModel):
    """A model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs)


@pytest.fixture
def runner(tmp_path: Path) -> CTRunner:
    """A Runner that does nothing but hold a model."""
    name = tmp_path.name.replace("-", "_")
    return CTRunner(Linear(), work_dir=str(tmp_path / "work"), experiment_name=name)


def test_loads_wrapped_weights(runner: CTRunner, tmp_path: Path) -> None:
    weights = {"module.layer.weight": torch.ones(2, 2), "module.layer.bias": torch.zeros(2)}
    torch.save({"state_dict": weights, "meta": {}}, tmp_path / "a.pth")
    runner.load_checkpoint(str(tmp_path / "a.pth"))
    assert torch.equal(runner.model.layer.weight, torch.ones(2, 2))


def test_refuses_weights_of_another_network(runner: CTRunner, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.ones(3, 3)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth does not fit the config: none of its 1"):
        runner.load_checkpoint(str(tmp_path / "a.pth"))
