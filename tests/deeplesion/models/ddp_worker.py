"""One process of test_two_process_ddp: a training step and a prediction of each stock detector."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper

from tests.deeplesion.models.detectors import STOCK_CONFIGS, batch, stock_detector


def step(name: str, rank: int) -> torch.Tensor:
    """Train one step on this rank's own batch; the weights of a convolution afterwards."""
    torch.manual_seed(0)
    model = MMDistributedDataParallel(stock_detector(name), device_ids=None)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    thickness = (1.0, 2.0) if rank == 0 else (5.0, 3.0)
    model.train_step(batch(thickness, seed=rank), optimizer)
    model.eval()
    with torch.no_grad():
        assert len(model.test_step(batch(thickness, seed=rank))) == 2
    return model.module.backbone.denseblock1.denselayer1.conv1.weight.detach().clone()


def main(folder: Path) -> None:
    """Run every detector and save the weights."""
    dist.init_process_group("gloo")
    weights = {name: step(name, dist.get_rank()) for name in STOCK_CONFIGS}
    torch.save(weights, folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
