"""One process of test_two_process_ddp: a training step and a prediction of each stock detector."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from mmengine.hooks import SyncBuffersHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.deeplesion.models.detectors import STOCK_CONFIGS, batch, stock_detector


def step(name: str, rank: int) -> dict[str, torch.Tensor]:
    """Train one step on this rank's own batch.

    Returns:
        The weights of a convolution, and a batch norm's mean before and after the hook of our
        configs has averaged it over the processes.
    """
    torch.manual_seed(0)
    model = MMDistributedDataParallel(stock_detector(name), device_ids=None)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    thickness = (1.0, 2.0) if rank == 0 else (5.0, 3.0)
    model.train_step(batch(thickness, seed=rank), optimizer)
    backbone = model.module.backbone
    own_mean = backbone.norm0.running_mean.clone()
    SyncBuffersHook().before_val_epoch(SimpleNamespace(model=model))
    model.eval()
    with torch.no_grad():
        assert len(model.test_step(batch(thickness, seed=rank))) == 2
    return {
        "weight": backbone.denseblock1.denselayer1.conv1.weight.detach().clone(),
        "own_mean": own_mean,
        "mean": backbone.norm0.running_mean.clone(),
    }


def main(folder: Path) -> None:
    """Run every detector and save what it gives."""
    dist.init_process_group("gloo")
    results = {name: step(name, dist.get_rank()) for name in STOCK_CONFIGS}
    torch.save(results, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
