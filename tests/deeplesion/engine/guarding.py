"""A small training in which chosen batches go wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from deeplesion.engine.guard import RECORD_FILE
from deeplesion.engine.runner import CTRunner


class Numbers(Dataset):
    """Samples of four random numbers; some are NaN.

    Args:
        bad: Which.
        size: How many there are.
    """

    def __init__(self, bad: set[int], size: int = 8) -> None:
        self.bad, self.size = bad, size
        self.metainfo: dict = {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        values = torch.randn(4, generator=torch.Generator().manual_seed(index))
        if index in self.bad:
            values[1:3] = math.nan
        names = {"file_name": f"{index:06d}_01_01_009.png", "series": "s", "key_slice": 9}
        return {"inputs": values, "data_samples": BaseDataElement(metainfo=names)}


class Learner(BaseModel):
    """A layer and a batch norm, with two losses of which one sees the input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 3), nn.BatchNorm1d(3)

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str) -> dict[str, Tensor]:
        """The losses of a batch."""
        output = self.norm(self.layer(torch.stack(inputs)))
        return {"loss_fit": (output - 1).square().mean(), "loss_size": self.layer.bias.sum() ** 2}


class States(Hook):
    """Keeps the weights, buffers and optimizer's state as they are after each iteration."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def after_train_iter(self, runner: CTRunner, *args: Any, **kwargs: Any) -> None:
        """Keep what there is."""
        state = {k: v.clone() for k, v in runner.model.state_dict().items()}
        for number, entries in runner.optim_wrapper.state_dict()["state"].items():
            state.update({f"optimizer.{number}.{k}": v.clone() for k, v in entries.items()})
        self.kept.append(state)


def runner_of(work_dir: Path, bad: set[int], **changes: Any) -> CTRunner:
    """A Runner of one pass over eight samples, two per batch, in order."""
    torch.manual_seed(0)
    loader = DataLoader(Numbers(bad), batch_size=2, collate_fn=pseudo_collate)
    settings = dict(
        model=Learner(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(
            type="GuardedOptimWrapper",
            optimizer=dict(type="SGD", lr=0.1, momentum=0.9),
            clip_grad=dict(max_norm=1.0),
        ),
        default_hooks=dict(guard=dict(type="NonFiniteGuardHook"), logger=None),
        default_scope="mmdet",
        experiment_name=f"guard_{work_dir.name}_{torch.randint(2**40, ()).item()}",
    )
    return CTRunner(**{**settings, **changes})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def records_of(work_dir: Path) -> list[dict[str, Any]]:
    """The skipped steps that were written down."""
    return [json.loads(line) for line in (work_dir / RECORD_FILE).read_text().splitlines()]
