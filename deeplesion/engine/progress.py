"""What a training tells of itself while it runs: speed, waiting for data, memory, time left."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import all_reduce
from mmengine.hooks import LoggerHook

MIB = 1 << 20
SECONDS_PER_HOUR = 3600.0
#: Where the message hub, and with it every checkpoint, keeps what is counted over sessions.
PROGRESS_KEY = "progress"


@dataclass
class Progress:
    """What is counted over all sessions of a training.

    Attributes:
        seconds: From the begin of training on, with validation and checkpoints.
        step_seconds: Of it, in training steps, waiting for data included.
        data_seconds: Of it, waiting for data.
        images: Seen in training, by all processes.
        gpu_peak_mib: Largest memory of a process on its GPU in MiB; 0 without one.
        ram_peak_mib: Largest resident memory of a process in MiB, without its data workers.
        sessions: 1, and 1 more for each time that the training was resumed.
    """

    seconds: float = 0.0
    step_seconds: float = 0.0
    data_seconds: float = 0.0
    images: float = 0.0
    gpu_peak_mib: float = 0.0
    ram_peak_mib: float = 0.0
    sessions: int = 0

    @property
    def data_share(self) -> float:
        """Share of the time of steps that was spent waiting for data."""
        return self.data_seconds / self.step_seconds if self.step_seconds > 0 else 0.0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """Read what ``dataclasses.asdict`` gave; what is unknown or missing does not matter."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def resident_mib() -> float:
    """Resident memory of this process in MiB now, or its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return peak_resident_mib()
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def peak_resident_mib() -> float:
    """Largest resident memory that this process had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on a Mac, else in KiB.
    return peak / (MIB if sys.platform == "darwin" else 1024)


def gpu_peak_mib() -> float:
    """Largest memory that tensors of this process took of its GPU, in MiB; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0


def batch_images(data_batch: Any) -> int:
    """Number of images of a batch as dataloaders of mmdetection give it."""
    inputs = data_batch.get("inputs", ()) if isinstance(data_batch, Mapping) else data_batch
    return len(inputs) if isinstance(inputs, Sized) else 0


def over_processes(values: Sequence[float], how: str) -> list[float]:
    """Reduce numbers over all processes, each of which must call this.

    Args:
        values: Of this process.
        how: ``sum``, ``max`` or another operation of ``mmengine.dist.all_reduce``.

    Returns:
        The same numbers on every process.
    """
    tensor = torch.tensor(values, dtype=torch.float64)
    all_reduce(tensor, how)
    return tensor.tolist()


@HOOKS.register_module()
class CTLoggerHook(LoggerHook):
    """mmengine's ``LoggerHook`` that also logs how fast training is and what it waits for.

    With each line it adds, over the steps since the last one:

    - ``images_per_second`` of all processes together;
    - ``data_share``: which part of that time this process waited for data, 0 to 1;
    - ``ram_mib``: resident memory of the largest process; that of GPUs is mmengine's ``memory``;
    - ``eta_hours``, and ``eta`` in the text: the time left, validation and checkpoints included.

    All curves have iterations for steps, those of validation too, so that they share an axis.
    What is counted over the whole training is kept in the message hub, see :class:`Progress`.

    Args:
        **kwargs: Those of :class:`mmengine.hooks.LoggerHook`.
    """

    def __init__(self, log_metric_by_epoch: bool = False, **kwargs: Any) -> None:
        super().__init__(log_metric_by_epoch=log_metric_by_epoch, **kwargs)
        self._before = Progress()
        self._now = Progress()
        self._logged = Progress()
        self._begin, self._first_iter = time.perf_counter(), 0
        self._interrupted = False

    def before_train(self, runner: Any) -> None:
        """Go on counting from where a checkpoint left off."""
        kept = runner.message_hub.runtime_info.get(PROGRESS_KEY, {})
        self._before = Progress.from_dict(kept)
        self._before.sessions += 1
        self._now, self._logged = Progress(**asdict(self._before)), Progress(**asdict(self._before))
        self._begin, self._first_iter = time.perf_counter(), runner.iter
        self._keep(runner)
        if (tensorboard := runner.visualizer.get_backend("CTTensorboardBackend")) is not None:
            tensorboard.begin_at(runner.iter)

    def before_train_epoch(self, runner: Any) -> None:
        """Count what an epoch begins with as waiting: mmengine sets its clock anew."""
        self._interrupted = False

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count a step; log it where its turn has come."""
        total = runner.message_hub.get_scalar("train/time").current()
        waited = runner.message_hub.get_scalar("train/data_time").current()
        # After a validation or a checkpoint, mmengine takes the time of that for waiting.
        self._now.step_seconds += total - waited if self._interrupted else total
        self._now.data_seconds += 0.0 if self._interrupted else waited
        self._now.images += batch_images(data_batch)
        self._interrupted = False
        runner.message_hub.update_info("eta", self._seconds_left(runner))
        self._keep(runner)
        if not self._logs_now(runner, batch_idx):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        figures = self._figures(runner)
        for name, value in figures.items():
            runner.message_hub.update_scalar(name, value)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        # They are of this moment and this machine, not of the training: no checkpoint keeps them.
        for name in figures:
            runner.message_hub.log_scalars.pop(name)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Have the checkpoint know all the time that was spent until now."""
        self._interrupted = True
        self._keep(runner)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the metrics of a validation."""
        self._interrupted = True
        self._keep(runner)
        super().after_val_epoch(runner, metrics)

    def after_train(self, runner: Any) -> None:
        """Count the steps after the last line, too, for the summary."""
        self._count_together()
        self._keep(runner)
        super().after_train(runner)

    def _logs_now(self, runner: Any, batch_idx: int) -> bool:
        # As LoggerHook decides.
        if self.every_n_inner_iters(batch_idx, self.interval):
            return True
        short = not self.ignore_last or len(runner.train_dataloader) <= self.interval
        return short and self.end_of_epoch(runner.train_dataloader, batch_idx)

    def _figures(self, runner: Any) -> dict[str, float]:
        """What is logged beside mmengine's figures; every process comes here."""
        now, last = self._now, self._logged
        images, resident = self._count_together()
        seconds = max(now.step_seconds - last.step_seconds, 1e-9)
        figures = {
            "images_per_second": images / seconds,
            "data_share": (now.data_seconds - last.data_seconds) / seconds,
            "ram_mib": resident,
            "eta_hours": self._seconds_left(runner) / SECONDS_PER_HOUR,
        }
        self._logged = Progress(**asdict(now))
        self._keep(runner)
        return {f"train/{name}": value for name, value in figures.items()}

    def _count_together(self) -> tuple[float, float]:
        """Take in what other processes counted; every process comes here.

        Returns:
            Images since the last line, and resident memory of the largest process in MiB.
        """
        now, last = self._now, self._logged
        (images,) = over_processes([now.images - last.images], "sum")
        peaks = [now.gpu_peak_mib, now.ram_peak_mib, resident_mib()]
        now.gpu_peak_mib, now.ram_peak_mib, resident = over_processes(peaks, "max")
        now.images = last.images + images
        return images, resident

    def _seconds_left(self, runner: Any) -> float:
        done = runner.iter + 1 - self._first_iter
        spent = time.perf_counter() - self._begin
        return spent / done * (runner.max_iters - runner.iter - 1)

    def _keep(self, runner: Any) -> None:
        now = self._now
        now.seconds = self._before.seconds + time.perf_counter() - self._begin
        now.gpu_peak_mib = max(now.gpu_peak_mib, gpu_peak_mib())
        now.ram_peak_mib = max(now.ram_peak_mib, peak_resident_mib())
        runner.message_hub.update_info(PROGRESS_KEY, asdict(self._now))
