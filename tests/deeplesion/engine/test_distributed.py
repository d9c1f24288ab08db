"""Process groups without a GPU."""

from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from alignshift.models.sync_norm import SyncBatchNorm2d
from deeplesion.engine.distributed import (
    CTDistributedDataParallel,
    prepare_distributed,
    process_group,
    synchronize_norms,
    worker_group,
)
from tests.processes import run_processes

IMAGES = 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="gloo is chosen only where there is no CUDA")
def test_pytorch_launcher_gets_gloo_and_ddp_without_devices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cfg = Config({"launcher": "pytorch"})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    variables = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with process_group(cfg):
        assert dist.get_backend() == "gloo"
        assert cfg.model_wrapper_cfg.type == "CTDistributedDataParallel"
    assert not dist.is_initialized()


def test_one_process_needs_nothing() -> None:
    cfg = Config({"launcher": "none"})
    with process_group(cfg):
        assert not dist.is_initialized()
    assert "model_wrapper_cfg" not in cfg


def test_a_process_by_itself_has_all_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with worker_group() as (rank, processes):
        assert (rank, processes) == (0, 1)
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("settings", "synchronized"), [({}, False), ({"sync_bn": "torch"}, True)], ids=str
)
def test_config_says_whether_norms_are_synchronized(settings: dict, synchronized: bool) -> None:
    cfg = Config({"launcher": "slurm", **settings})
    prepare_distributed(cfg)
    assert cfg.model_wrapper_cfg.sync_norms == synchronized
    assert not cfg.model_wrapper_cfg.find_unused_parameters
    # mmengine would make norms of it that refuse a CPU.
    assert cfg.sync_bn is None


def test_wrapper_of_the_config_is_left_alone() -> None:
    own = {"type": "MMDistributedDataParallel"}
    cfg = Config({"launcher": "slurm", "model_wrapper_cfg": own, "sync_bn": "torch"})
    prepare_distributed(cfg)
    assert cfg.model_wrapper_cfg == own
    assert cfg.sync_bn == "torch"


def test_norms_are_synchronized_by_kind(caplog: pytest.LogCaptureFixture) -> None:
    class Other(nn.BatchNorm2d):
        """A norm that does more."""

    model = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2).eval()), Other(2))
    names = list(model.state_dict())
    with caplog.at_level("WARNING"):
        synchronize_norms(model)
    assert [type(m) for m in (model[0], model[1][0], model[2])] == [
        SyncBatchNorm2d,
        SyncBatchNorm2d,
        Other,
    ]
    assert not model[1][0].training
    assert list(model.state_dict()) == names


class Regression(BaseModel):
    """Something to learn whose loss is a mean over images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1, dtype=torch.float64)
        nn.init.constant_(self.layer.weight, 0.5)
        nn.init.zeros_(self.layer.bias)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        """The loss."""
        return {"loss": (self.layer(inputs) - inputs.sum(1, keepdim=True)).pow(2).mean()}


def learn(images: Tensor, accumulated: int) -> tuple[list[Tensor], int]:
    """Weights after one step of as many batches, and how often gradients were exchanged."""
    exchanged = []

    def exchange(state: None, bucket: dist.GradBucket) -> torch.futures.Future:
        exchanged.append(1)
        return allreduce_hook(None, bucket)

    # DDP looks at annotations, and does not know them as text.
    exchange.__annotations__.clear()

    model: nn.Module = Regression()
    if dist.is_initialized():
        images = images[dist.get_rank() :: dist.get_world_size()]
        model = CTDistributedDataParallel(model)
        model.register_comm_hook(None, exchange)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OptimWrapper(optimizer, accumulative_counts=accumulated)
    wrapper.initialize_count_status(model, 0, accumulated)
    for batch in images.chunk(accumulated):
        model.train_step({"inputs": batch}, wrapper)
    return [parameter.detach() for parameter in model.parameters()], len(exchanged)


@pytest.mark.parametrize("accumulated", [1, 2, 4])
def test_accumulated_batches_are_one_large_one_and_exchanged_once(accumulated: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 3, dtype=torch.float64)
    expected, _ = learn(images, 1)
    for weights, exchanges in run_processes(learn, 2, images, accumulated):
        torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0)
        assert exchanges == 1
