"""The Runner of the tools."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from deeplesion.engine.checkpoint import CheckpointError, describe_operators, read_checkpoint
from deeplesion.engine.compilation import compile_parts
from deeplesion.engine.fit import NAME_CHANGES, check_fit, nothing_fits, revise_names
from deeplesion.engine.lr_scaling import accumulation_of, scale_learning_rates
from deeplesion.engine.pretrained import describe_load, fit_detector_weights

# mmengine's checkpoint hook warns of mmengine's own use of deprecated names; no user can act on it.
UPSTREAM_NOTICES = (
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
)

# What mmengine needs beside weights to go on with a training.
TRAINING_STATE = {"meta", "message_hub", "optimizer"}


def is_worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record is anything but the notices above."""
    return not record.getMessage().startswith(UPSTREAM_NOTICES)


class CTRunner(Runner):
    """mmengine's Runner that reads checkpoints safely and refuses those of another network.

    mmengine either unpickles whatever is in a file (0.10.12 falls back to it) or cannot read its
    own training checkpoints on today's PyTorch (0.10.7), and takes any checkpoint for any model.
    Here a checkpoint to test or to resume must have exactly the weights of the model, and the
    3D-context operators that it was trained with; one to fine-tune must fit in part, and may be one
    of a 2D detector.
    """

    # Whether a checkpoint must have exactly the model's weights.
    _must_fit = False
    # Whether it must have the state of a training as well.
    _resuming = False

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, without the notices that are not for users."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(is_worth_showing)
        return logger

    def train(self) -> nn.Module:
        """Train."""
        self._compile_parts()
        return super().train()

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

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Go on from a checkpoint of the same training; it must fit entirely.

        Raises:
            CheckpointError: It does not fit, or holds weights only.
        """
        self._must_fit = True
        self._resuming = True
        super().resume(filename, *args, **kwargs)

    def save_checkpoint(self, *args: Any, meta: dict | None = None, **kwargs: Any) -> None:
        """Save a checkpoint that records the model's operators as ``meta['operators']``."""
        operators = describe_operators(self._bare_model())
        super().save_checkpoint(*args, meta={**(meta or {}), "operators": operators}, **kwargs)

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
        if self._resuming and not checkpoint.keys() >= TRAINING_STATE:
            raise CheckpointError(
                f"checkpoint {filename} cannot be resumed, it holds no training state: begin a new "
                f"training from it by --cfg-options load_from={filename}"
            )
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
