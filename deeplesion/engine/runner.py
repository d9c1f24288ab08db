"""The Runner of the tools."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

from mmdet.registry import LOOPS
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from deeplesion.datasets.samplers.base import CTSampler
from deeplesion.engine.checkpoint import CheckpointError, describe_operators, read_checkpoint
from deeplesion.engine.checkpoint_files import (
    RUN,
    TRAINING_STATE,
    agree_on_checkpoint,
    remove_temporary_files,
    writing,
)
from deeplesion.engine.checkpoint_hook import ResumableCheckpointHook
from deeplesion.engine.compilation import compile_parts
from deeplesion.engine.fit import NAME_CHANGES, check_fit, nothing_fits, revise_names
from deeplesion.engine.loops import ExactLoop
from deeplesion.engine.lr_scaling import accumulation_of, scale_learning_rates
from deeplesion.engine.preemption import Preempted, ShieldedWorker, StopSignals
from deeplesion.engine.pretrained import describe_load, fit_detector_weights
from deeplesion.engine.resuming import (
    RANK_STATE,
    check_same_run,
    describe_run,
    gather_rank_state,
    restore_rank_state,
)
from deeplesion.engine.weight_average import check_average

# mmengine's checkpoint hook warns of mmengine's own use of deprecated names; no user can act on it.
# Nor are gradients that were being accumulated lost on a resume, as they are with its own hook.
UPSTREAM_NOTICES = (
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    "Resumed iteration number is not divisible by",
)


def is_worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record is anything but the notices above."""
    return not record.getMessage().startswith(UPSTREAM_NOTICES)


class CTRunner(Runner):
    """mmengine's Runner that reads checkpoints safely, and goes on exactly from its own.

    mmengine either unpickles whatever is in a file (0.10.12 falls back to it) or cannot read its
    own training checkpoints on today's PyTorch (0.10.7), and takes any checkpoint for any model.
    Here a checkpoint to test or to resume must have exactly the weights of the model, and the
    3D-context operators that it was trained with; one to fine-tune must fit in part, and may be one
    of a 2D detector.

    ``resume`` of the config is ``"auto"`` for the furthest whole checkpoint of the work folder, or
    a new beginning where that has none; the path of a checkpoint; or mmengine's ``True``, which
    resumes ``load_from``, or the work folder's where that is not set. The seed of the run then is
    that of the checkpoint. Every process has random numbers of its own, whatever
    ``diff_rank_seed`` says.

    Attributes:
        resumed_from: The checkpoint that this training goes on from, if any.
        rank_state: What the checkpoint that is being written holds of each process.
        stop_signals: Tells whether a signal asked the training to end.
    """

    resumed_from: str | None = None
    rank_state: list[dict[str, Any]] | None = None
    stop_signals: StopSignals | None = None
    # mmengine's, of its constructor.
    _resume: bool | str
    _load_from: str | None
    _randomness_cfg: dict[str, Any]
    # Whether a checkpoint must have exactly the model's weights.
    _must_fit = False
    # Whether it must have the state of a training as well.
    _resuming = False
    # Identity of the training, whatever number of times it is resumed.
    _identity = ""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, without the notices that are not for users."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(is_worth_showing)
        return logger

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Settle the seed; see :meth:`mmengine.runner.Runner.set_randomness`."""
        # Samplers must have one seed in all processes, and know it again after a resume.
        self._randomness_cfg = {**self._randomness_cfg, "diff_rank_seed": False}
        super().set_randomness(seed, False, deterministic)

    @staticmethod
    def build_dataloader(*args: Any, **kwargs: Any) -> DataLoader:
        """Build a dataloader whose workers leave signals to the main process.

        Its sampler gets to know which samples are of one step.
        """
        loader = Runner.build_dataloader(*args, **kwargs)
        if type(loader.batch_sampler) is BatchSampler and isinstance(loader.sampler, CTSampler):
            loader.sampler.batch_size = loader.batch_size
        loader.worker_init_fn = ShieldedWorker(loader.worker_init_fn)
        return loader

    def train(self) -> nn.Module:
        """Train.

        Raises:
            Preempted: A signal asked the training to end; its checkpoint is written.
            CheckpointError: There is no checkpoint to resume, or none can be written.
        """
        with StopSignals(active=self._heeds_signals()) as self.stop_signals:
            self._settle_resume()
            self._compile_parts()
            try:
                return super().train()
            except Preempted:
                self.visualizer.close()
                raise

    def test(self) -> dict:
        """Test; the checkpoint must fit entirely."""
        self._must_fit = True
        self._compile_parts()
        return super().test()

    def val(self) -> dict:
        """Validate; the checkpoint must fit entirely."""
        self._must_fit = True
        self._compile_parts()
        return super().val()

    def load_or_resume(self) -> None:
        """Load weights, or go on from the checkpoint that was chosen when the training began."""
        if self.resumed_from is not None and not self._has_loaded:
            self.resume(self.resumed_from)
        else:
            super().load_or_resume()

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of the same training; it must fit entirely.

        Raises:
            CheckpointError: It does not fit, holds weights only, or its position means something
                else in this run.
        """
        self._must_fit = True
        self._resuming = True
        super().resume(filename, *args, **kwargs)
        restore_rank_state(self._bare_model(), self.optim_wrapper, self.rank_state)
        self.rank_state = None

    def save_checkpoint(
        self, out_dir: str, filename: str, *args: Any, meta: dict | None = None, **kwargs: Any
    ) -> None:
        """Save a checkpoint so that there is a whole one at any time.

        Its meta records the model's operators, and the run. All processes must call this.

        Raises:
            CheckpointError: The disk does not take it; earlier checkpoints stay as they are.
        """
        meta = {**(meta or {}), "operators": describe_operators(self._bare_model())}
        if kwargs.get("save_optimizer", True):
            meta[RUN] = describe_run(self, self._identity)
            self.rank_state = gather_rank_state(self._bare_model(), self.optim_wrapper)
        if is_main_process():
            with writing(out_dir, filename) as (folder, name):
                super().save_checkpoint(folder, name, *args, meta=meta, **kwargs)
        self.rank_state = None

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Scale the learning rate with the images per step; mmengine forgets accumulated batches.

        Args:
            optim_wrapper: Just built.
            auto_scale_lr: ``enable``, and ``base_batch_size``, for which the rate is given.
        """
        if auto_scale_lr is None or not auto_scale_lr.get("enable"):
            return
        loader = self._train_dataloader
        own = loader["batch_size"] if isinstance(loader, dict) else loader.batch_size
        steps = accumulation_of(optim_wrapper)
        images, base = own * self.world_size * steps, auto_scale_lr["base_batch_size"]
        factor = scale_learning_rates(optim_wrapper, images, base)
        self.logger.info(
            f"Learning rate scaled by {factor:g}: it is given for {base} images per step, there "
            f"are {images} ({own} per batch, {self.world_size} processes, {steps} batches per step)"
        )

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = "cpu",
        strict: bool = False,
        revise_keys: list | None = None,
    ) -> dict:
        """Load weights into the model; see :meth:`mmengine.runner.Runner.load_checkpoint`.

        Raises:
            CheckpointError: The file cannot be read, or not one of its weights fits the model; to
                test, to resume or under ``strict``, it does not fit entirely.
        """
        checkpoint = read_checkpoint(filename, map_location)
        # mmengine runs the Python code that it finds there.
        checkpoint.get("meta", {}).pop("config", None)
        if self._resuming:
            self._check_resumable(filename, checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        revise_keys = revise_keys or NAME_CHANGES
        if strict or self._must_fit:
            model = self._bare_model()
            check_fit(filename, checkpoint, model, revise_keys)
            _load_checkpoint_to_model(model, checkpoint, strict, "current", revise_keys)
            self.logger.info(f"Load checkpoint from {filename}")
        else:
            self._load_what_fits(filename, checkpoint, revise_keys)
        self._has_loaded = True
        return checkpoint

    def _heeds_signals(self) -> bool:
        """Whether loop and hooks are those that end a training when asked to."""
        kind = self._train_loop.get("type") if isinstance(self._train_loop, dict) else None
        loop = LOOPS.get(kind) if isinstance(kind, str) else kind
        return (
            isinstance(loop, type)
            and issubclass(loop, ExactLoop)
            and any(isinstance(hook, ResumableCheckpointHook) for hook in self.hooks)
        )

    def _settle_resume(self) -> None:
        """Choose the checkpoint to go on from, and take over its seed before anything is built."""
        self._identity = uuid4().hex
        if is_main_process():
            remove_temporary_files(Path(self.work_dir))
        if not self._resume:
            return
        choice = agree_on_checkpoint(self._resume, self._load_from, self.work_dir)
        header = choice.header
        for complaint in choice.complaints:
            self.logger.warning(f"{complaint}; going on from {header and header.path} instead")
        if header is None:
            self.logger.info(f"No checkpoint in {self.work_dir} to resume: the training begins")
            self._resume = False
            return
        self._resume, self._load_from, self.resumed_from = True, None, str(header.path)
        self._identity = header.run or self._identity
        seed, own = header.meta.get("seed"), self._randomness_cfg.get("seed")
        if seed not in (None, own):
            if own is not None:
                self.logger.warning(f"The training goes on with its seed {seed}, not with {own}")
            self._randomness_cfg = {**self._randomness_cfg, "seed": seed}
            self.set_randomness(**self._randomness_cfg)

    def _check_resumable(self, filename: str, checkpoint: dict[str, Any]) -> None:
        if not checkpoint.keys() >= TRAINING_STATE:
            raise CheckpointError(
                f"checkpoint {filename} cannot be resumed, it holds no training state: begin a new "
                f"training from it by --cfg-options load_from={filename}"
            )
        check_average(filename, checkpoint, self.hooks)
        recorded = checkpoint["meta"].get(RUN, {})
        own = describe_run(self, self._identity)
        for difference in check_same_run(filename, recorded, own):
            self.logger.warning(difference)
        self.train_loop.validated = recorded.get("validated")
        self.rank_state = checkpoint.pop(RANK_STATE, None)

    def _compile_parts(self) -> None:
        """Compile what ``compile_parts`` of the config names, by ``compile_options``."""
        parts, options = self.cfg.get("compile_parts") or (), self.cfg.get("compile_options")
        compile_parts(self._bare_model(), parts, options)

    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _load_what_fits(self, filename: str, checkpoint: dict, revise_keys: list) -> None:
        weights = revise_names(checkpoint["state_dict"], revise_keys)
        report = fit_detector_weights(self._bare_model(), weights)
        if not report.loaded:
            raise nothing_fits(filename, weights, self._bare_model().state_dict())
        self.logger.info(f"Load checkpoint from {filename}: {describe_load(report)}")
