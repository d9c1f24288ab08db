"""One process of test_two_processes_compute_the_gradients_of_one."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tests.alignshift.operators.operator_cases import OPERATOR_KWARGS, make, volume

NUM_PROCESSES = 2


def whole_batch() -> tuple[Tensor, Tensor]:
    """Stacks of mixed thickness, two for each process."""
    return volume(2 * NUM_PROCESSES), torch.tensor([1.0, 2.5, 5.0, float("nan")])


def gradients(model: nn.Module, x: Tensor, thickness: Tensor) -> dict[str, Tensor]:
    """Gradients of every parameter, by its name without the wrapper's."""
    model(x, thickness).square().mean().backward()
    return {
        name.removeprefix("module."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def main(folder: Path) -> None:
    """Compute the gradients of every operator on this process's share, and save them."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    x, thickness = (tensor.chunk(NUM_PROCESSES)[rank] for tensor in whole_batch())
    results = {
        name: gradients(DistributedDataParallel(make(name)), x, thickness)
        for name in OPERATOR_KWARGS
    }
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
