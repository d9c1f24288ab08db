"""A detector from a config and a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from deeplesion.engine.config import UsageError, check_checkpoint, check_num_slices, load_config
from deeplesion.engine.fit import load_fitting


def read_config(config: str | os.PathLike[str] | Config) -> Config:
    """A config, read from a file if it is none yet.

    Args:
        config: A config file, or a config.

    Raises:
        UsageError: See :func:`deeplesion.engine.config.load_config`.
    """
    if isinstance(config, Config):
        check_num_slices(config)
        return config
    return load_config(str(config), None, None)


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device to compute on: what was asked for, else a GPU if there is one.

    Args:
        device: Such as ``cpu``, ``cuda`` or ``cuda:1``; None chooses.

    Raises:
        UsageError: There is no such device.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        what = str(error).splitlines()[0]
        raise UsageError(f"device {device} cannot be used: {what}") from error
    return chosen


def build_detector(cfg: Config, checkpoint: str | Path, device: torch.device) -> nn.Module:
    """Build a config's detector with the weights of a checkpoint, ready to predict.

    Args:
        cfg: Its ``model`` is built; no pretrained weights are looked for.
        checkpoint: A file that fits the model exactly. Nothing in it is run.
        device: Where the detector shall be.

    Raises:
        UsageError: There is no such checkpoint, or no model in the config.
        CheckpointError: It cannot be read or does not fit.
    """
    check_checkpoint(str(checkpoint))
    if not cfg.get("model"):
        raise UsageError(f"config {cfg.filename} has no model: take a whole config")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model: nn.Module = MODELS.build(cfg.model)
    load_fitting(checkpoint, model)
    return model.to(device).eval().requires_grad_(False)
