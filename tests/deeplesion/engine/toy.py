"""A training of seconds, with all that resuming must bring back."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

import deeplesion  # noqa: F401  # isort: skip  (registers everything)
from mmdet.registry import DATASETS, METRICS, MODELS

from deeplesion.datasets.samplers.base import seeded_by
from deeplesion.engine import distributed
from deeplesion.engine.cli import run_tool
from deeplesion.engine.runner import CTRunner

SAMPLES = 14
EPOCHS = 3
BATCH = 2
ITERATIONS = EPOCHS * SAMPLES // BATCH


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Noise that follows from the draw, by all three generators."""

    metainfo = {"classes": ("lesion",)}  # noqa: RUF012

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        with seeded_by(index):
            noise = torch.rand(3, 4, 4) + np.random.rand() + random.random()
        return {"inputs": noise.float() * (1 + int(index)), "target": torch.tensor(float(index))}


@MODELS.register_module()
class ToyModel(BaseModel):
    """Batch norm, dropout, and one number for a sample.

    Args:
        seconds: That a step takes.
        seconds_to_predict: That a prediction takes.
        alone: Look at each sample alone, and draw nothing.
    """

    def __init__(
        self, seconds: float = 0.0, seconds_to_predict: float = 0.0, alone: bool = False
    ) -> None:
        super().__init__()
        self.seconds, self.seconds_to_predict, self.alone = seconds, seconds_to_predict, alone
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        if alone:
            self.norm = nn.GroupNorm(2, 4)
        self.drop, self.head = nn.Dropout(0.0 if alone else 0.3), nn.Linear(4, 1)

    def forward(
        self, inputs: list[torch.Tensor], target: list[torch.Tensor], mode: str = "tensor"
    ) -> Any:
        time.sleep(self.seconds if self.training else self.seconds_to_predict)
        x = self.norm(self.conv(torch.stack(inputs))).relu().mean((2, 3))
        out = self.head(self.drop(x))[:, 0]
        # What a step draws outside of PyTorch counts, too.
        if not self.alone:
            out = out + 0.01 * np.random.rand() + 0.01 * random.random()
        if mode == "predict":
            return list(out)
        return {"loss": ((out - torch.stack(target)) ** 2).mean()}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """Minus the mean of the predictions."""

    default_prefix = "froc"

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Collect predictions."""
        self.results.extend(float(one) for one in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Something to be the best by."""
        return {"mean": -float(np.mean(results)), "number": len(results)}


class SignalHook(Hook):
    """Sends a signal to its own process after an iteration, or before the first one by 0."""

    priority = "LOWEST"

    def __init__(self, iteration: int, name: str) -> None:
        self.iteration, self.number = iteration, signal.Signals[name]

    def before_run(self, runner: Any) -> None:
        """Send it early."""
        if self.iteration == 0:
            os.kill(os.getpid(), self.number)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Send it when the next iteration begins."""
        if self.iteration == runner.iter > 0:
            os.kill(os.getpid(), self.number)


def config(work_dir: Path, by_epoch: bool, **changes: Any) -> dict[str, Any]:
    """Arguments of a Runner; ``changes`` are in dotted keys."""
    loader = {"batch_size": BATCH, "num_workers": 0, "dataset": {"type": "ToyDataset"}}
    interval = SAMPLES // BATCH
    milestone = 2 if by_epoch else 14
    loop = (
        {"type": "ResumableEpochLoop", "max_epochs": EPOCHS}
        if by_epoch
        else {"type": "ResumableIterLoop", "max_iters": ITERATIONS, "val_interval": interval}
    )
    cfg = Config(
        {
            "model": {"type": "ToyModel"},
            "work_dir": str(work_dir),
            "experiment_name": f"toy_{os.getpid()}_{time.time_ns()}",
            "default_scope": "mmdet",
            "train_dataloader": {
                **loader,
                "sampler": {"type": "CTSampler", "infinite": not by_epoch},
            },
            "val_dataloader": {**loader, "sampler": {"type": "CTSampler", "shuffle": False}},
            "train_cfg": loop,
            "val_cfg": {"type": "ValLoop"},
            "val_evaluator": {"type": "ToyMetric"},
            "optim_wrapper": {
                "optimizer": {"type": "AdamW", "lr": 0.01},
                "clip_grad": {"max_norm": 5},
            },
            "param_scheduler": [
                {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 9},
                {
                    "type": "MultiStepLR",
                    "by_epoch": by_epoch,
                    "milestones": [milestone],
                },
            ],
            "default_hooks": {
                "logger": {"type": "LoggerHook", "interval": 1},
                "checkpoint": {
                    "type": "ResumableCheckpointHook",
                    "interval": 1 if by_epoch else interval,
                    "by_epoch": by_epoch,
                    "every_iters": 3,
                    "max_keep_ckpts": 2,
                    "save_best": "froc/mean",
                    "rule": "greater",
                },
                "scalars": {"type": "ScalarsHook"},
            },
            "custom_hooks": [{"type": "EMAHook"}, {"type": "SyncBuffersHook"}],
            "randomness": {"seed": 4},
            "log_processor": {"by_epoch": by_epoch},
            "log_level": "WARNING",
        },
        # Else its text would be formatted for each checkpoint.
        format_python_code=False,
    )
    cfg.merge_from_dict(changes)
    return cfg


def train(job: dict[str, Any]) -> int:
    """Train as a job says; the exit code."""
    torch.set_num_threads(1)
    changes = dict(job.get("changes", {}))
    if "store" in job:
        torch.distributed.init_process_group(
            "gloo",
            init_method=f"file://{job['store']}",
            rank=job["rank"],
            world_size=job["processes"],
        )
        os.environ["LOCAL_RANK"] = str(job["rank"])
        changes["launcher"] = "pytorch"
    signal_after = changes.pop("signal_after", None)
    cfg = config(Path(job["work_dir"]), job["by_epoch"], **changes)
    if job.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)

    def run() -> None:
        with distributed.process_group(cfg):
            runner = CTRunner.from_cfg(cfg)
            if signal_after:
                runner.register_hook(SignalHook(*signal_after))
            runner.train()

    try:
        return run_tool(run)
    except SystemExit as ended:
        return int(ended.code or 0)
