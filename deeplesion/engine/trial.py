"""A few steps, a validation, a checkpoint and a resume of a training, in a folder of their own."""

from __future__ import annotations

import copy
import gc
import math
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from deeplesion.engine.progress import gpu_peak_mib, over_processes, peak_resident_mib
from deeplesion.engine.runner import CTRunner

#: Steps before the checkpoint, and after going on from it.
FIRST_STEPS, MORE_STEPS = 2, 3
#: Batches of the validation.
VALIDATION_BATCHES = 3
NEVER = 10**9
PREFIX = ".dry_run_"


class EnoughError(Exception):
    """A trial has done its steps; no error, but the way out of a training loop."""


@dataclass
class Trial:
    """What a trial measured; largest values over all processes.

    Attributes:
        steps, waits: Seconds of each step but the first after a start, and of its waiting for data.
        losses: Of every step.
        begun_at: Iteration that each start began with.
        batches: Seconds of each batch of the validation.
        metrics: Names of the figures that the validation gave; None without a validation.
        saving: Seconds that the checkpoint took.
        checkpoint_bytes, weight_bytes: Size of it, and of the weights alone.
        batches_per_epoch: Of the training loader.
        gpu_mib, ram_mib: Peaks.
    """

    steps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    begun_at: list[int] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    metrics: list[str] | None = None
    saving: float = 0.0
    checkpoint_bytes: int = 0
    weight_bytes: int = 0
    batches_per_epoch: int = 0
    gpu_mib: float = 0.0
    ram_mib: float = 0.0


class TrialHook(Hook):
    """Measures the steps of a training and ends it after some.

    Args:
        trial: What is measured goes there.
        steps: How many.
    """

    # After the hook that saves checkpoints.
    priority = "LOWEST"

    def __init__(self, trial: Trial, steps: int) -> None:
        self.trial = trial
        self.steps = steps
        self.done = 0
        self._save_began: float | None = None

    def before_train(self, runner: Runner) -> None:
        """Note where training begins."""
        self.trial.begun_at.append(runner.iter)
        self.trial.batches_per_epoch = len(runner.train_dataloader)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note when saving begins."""
        self._save_began = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note how long a step took."""
        self.done += 1
        hub = runner.message_hub
        loss = torch.as_tensor((outputs or {}).get("loss", math.nan))
        self.trial.losses.append(loss.detach().item())
        # The first one starts workers, and on a GPU chooses kernels.
        if self.done > 1:
            self.trial.steps.append(hub.get_scalar("train/time").current())
            self.trial.waits.append(hub.get_scalar("train/data_time").current())
        if self._save_began is not None:
            self.trial.saving = time.perf_counter() - self._save_began
            self._save_began = None

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """End the training where it has done enough: between two steps, when all is counted.

        Raises:
            EnoughError: The step that would begin is not wanted.
        """
        if self.done >= self.steps:
            raise EnoughError

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Note how long a batch of the validation took."""
        self.trial.batches.append(runner.message_hub.get_scalar("val/time").current())


def run_trial(cfg: Config, validation_images: int) -> Trial:
    """Take the first steps of a training, validate, save, and go on from the checkpoint.

    All processes of a distributed run must call this. Nothing is written but in a folder below
    ``cfg.work_dir``, which is removed in the end.

    Args:
        cfg: As it would be trained with; not changed.
        validation_images: Size of the validation set.

    Returns:
        What was measured.
    """
    trial = Trial()
    with temporary_folder(Path(cfg.work_dir)) as folder:
        runner = _trained(trial_config(cfg, folder, validation_images), trial, FIRST_STEPS)
        if runner.val_loop is not None:
            trial.metrics = sorted(runner.val_loop.run())
        weights = runner.model.state_dict().values()
        trial.weight_bytes = sum(w.numel() * w.element_size() for w in weights)
        trial.checkpoint_bytes = (folder / f"iter_{FIRST_STEPS}.pth").stat().st_size
        # Its workers and tensors would stay while the next one begins.
        del runner, weights
        _collect()
        _trained(trial_config(cfg, folder, validation_images, resume=True), trial, MORE_STEPS)
        _collect()
    if len(trial.batches) > 1:
        trial.batches = trial.batches[1:]
    trial.gpu_mib, trial.ram_mib = over_processes([gpu_peak_mib(), peak_resident_mib()], "max")
    trial.steps = over_processes(trial.steps, "max")
    return trial


def trial_config(cfg: Config, folder: Path, validation_images: int, resume: bool = False) -> Config:
    """A config that trains as another one, but in a folder of its own and with few images to test.

    Args:
        cfg: Not changed.
        folder: Its work folder.
        validation_images: Size of the validation set.
        resume: Whether to go on from the checkpoint there.
    """
    trial = copy.deepcopy(cfg)
    trial.work_dir = str(folder)
    # mmengine keeps loggers and visualizers by name, and gives the old one to who comes later.
    trial.experiment_name = f"dry_run_{uuid.uuid4().hex}"
    trial.log_level = "ERROR"
    own = {"name": trial.experiment_name, "vis_backends": [{"type": "LocalLogBackend"}]}
    trial.visualizer = {**trial.get("visualizer", {}), **own}
    trial.resume = resume
    trial.load_from = None if resume or cfg.get("resume") else cfg.get("load_from")
    saving: dict[str, Any] = {"by_epoch": False, "interval": FIRST_STEPS, "save_begin": 0}
    # Names and places of its own, whatever the config says; the best by any figure there is.
    saving |= {"out_dir": None, "filename_tmpl": None, "save_best": "auto", "rule": "greater"}
    hooks = trial.setdefault("default_hooks", {})
    hooks.checkpoint = {**hooks.get("checkpoint", {"type": "CheckpointHook"}), **saving}
    if hooks.get("logger"):
        # With each line that it logs, mmengine forgets the peak of the GPU's memory.
        hooks.logger.update(out_dir=None, interval=NEVER)
    for metric in _as_list(trial.get("val_evaluator")):
        metric.update({key: None for key in metric if key.endswith("_file")})
        if metric["type"] == "FROCMetric" and metric.get("collect_device", "cpu") == "cpu":
            # Else processes meet in a folder where the command was given.
            metric["collect_dir"] = str(folder / "collected")
    # A step of the optimizer before the checkpoint: its state takes memory and disk.
    if (trial.get("optim_wrapper") or {}).get("accumulative_counts", 1) > FIRST_STEPS:
        trial.optim_wrapper.accumulative_counts = FIRST_STEPS
    # The validation comes when it is called for.
    trial.train_cfg.val_interval = trial.train_cfg.val_begin = NEVER
    for length in {"max_iters", "max_epochs"} & set(trial.train_cfg):
        # An epoch has a step at least.
        enough = FIRST_STEPS + MORE_STEPS + 1
        trial.train_cfg[length] = max(trial.train_cfg[length], enough)
    loader = trial.get("val_dataloader")
    # Data sets in wrappers are run as a whole.
    if loader is not None and not {"dataset", "datasets"} & set(loader.dataset):
        images = VALIDATION_BATCHES * loader.get("batch_size", 1) * get_world_size()
        loader.dataset.indices = list(range(min(images, validation_images)))
    return trial


@contextmanager
def temporary_folder(above: Path) -> Iterator[Path]:
    """A folder below another one, the same for all processes, that is removed with what is in it.

    Args:
        above: Made where it is missing, and then removed again.

    Yields:
        The folder.
    """
    made, name = [], ""
    if is_main_process():
        made = [folder for folder in (above, *above.parents) if not folder.exists()]
        above.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(prefix=PREFIX, dir=above)
    names = [name]
    broadcast_object_list(names)
    try:
        yield Path(names[0])
    finally:
        if is_main_process():
            shutil.rmtree(names[0], ignore_errors=True)
            for folder in made:
                folder.rmdir()


def _as_list(one: Any) -> list[Any]:
    return list(one) if isinstance(one, list | tuple) else [one] if one else []


def _trained(cfg: Config, trial: Trial, steps: int) -> Runner:
    runner = CTRunner.from_cfg(cfg)
    runner.register_hook(TrialHook(trial, steps), "LOWEST")
    with suppress(EnoughError):
        runner.train()
    return runner


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
