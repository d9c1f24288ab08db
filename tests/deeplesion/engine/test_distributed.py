"""Process groups without a GPU."""

from __future__ import annotations

import socket

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config

from deeplesion.engine.distributed import process_group, worker_group


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
        assert cfg.model_wrapper_cfg.device_ids is None
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
