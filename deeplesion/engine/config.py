"""What command-line options do to a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
DATA_ROOT_REMEDY = (
    "give --data-root, set DEEPLESION_ROOT, or make a synthetic data set with "
    "`python tools/make_synthetic.py --out DIR` (DeepLesion itself: docs/data.md)"
)


class UsageError(ValueError):
    """What the user asked for cannot be done; the message says why and what to do."""


def load_config(path: str, options: dict[str, Any] | None, data_root: str | None) -> Config:
    """Read a config file and apply ``--cfg-options`` and ``--data-root``.

    Args:
        path: A config file.
        options: Keys and values of ``--cfg-options``.
        data_root: Replaces the root of every dataset; ``data_root`` among the options does the
        same.

    Returns:
        The config.

    Raises:
        UsageError: There is no such file.
    """
    if not Path(path).is_file():
        raise UsageError(f"config {path} does not exist: the configs are in configs/")
    cfg = Config.fromfile(path)
    if options:
        cfg.merge_from_dict(options)
    data_root = data_root or (options or {}).get("data_root")
    if data_root is not None:
        set_data_root(cfg, data_root)
    return cfg


def datasets_of(cfg: Config) -> list[tuple[str, dict]]:
    """Name of the dataloader and config of each innermost dataset (wrappers are looked through)."""
    found = []
    for loader in DATALOADERS:
        dataset = (cfg.get(loader) or {}).get("dataset")
        while dataset is not None and "dataset" in dataset:
            dataset = dataset["dataset"]
        if dataset is not None:
            found.append((loader, dataset))
    return found


def set_data_root(cfg: Config, data_root: str) -> None:
    """Point every dataset of a config to another folder.

    Args:
        cfg: Changed in place.
        data_root: The folder that holds ``DL_info.csv``.
    """
    cfg.data_root = data_root
    for _, dataset in datasets_of(cfg):
        dataset["data_root"] = data_root


def check_data_root(cfg: Config, loaders: tuple[str, ...] = DATALOADERS) -> None:
    """Fail early, in one line, where the data are not there.

    Args:
        cfg: The config.
        loaders: Dataloaders that will be used.

    Raises:
        UsageError: A data root does not exist.
    """
    for loader, dataset in datasets_of(cfg):
        root = dataset.get("data_root") or ""
        if loader in loaders and not Path(root).is_dir():
            raise UsageError(f"data root {root!r} of {loader} does not exist: {DATA_ROOT_REMEDY}")


def set_work_dir(cfg: Config, config_path: str, work_dir: str | None) -> None:
    """Choose the folder of logs and checkpoints: the option, the config, or the config's name.

    Args:
        cfg: Changed in place.
        config_path: The config file.
        work_dir: ``--work-dir``.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(config_path).stem)


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: bfloat16 where the device has it, else float16 with scaling.

    Args:
        cfg: ``optim_wrapper`` is changed in place.
    """
    if not torch.cuda.is_available() or torch.cuda.is_bf16_supported():
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"
    else:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"


def use_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate linearly with the batch size over all processes.

    Args:
        cfg: ``auto_scale_lr`` is changed in place.

    Raises:
        UsageError: The config does not say which batch size its learning rate is for.
    """
    if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
        raise UsageError(
            "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config"
        )
    cfg.auto_scale_lr.enable = True


def check_checkpoint(path: str) -> None:
    """Fail early, in one line, where the checkpoint is not there.

    Args:
        path: The checkpoint file.

    Raises:
        UsageError: There is no such file.
    """
    if not Path(path).is_file():
        raise UsageError(f"checkpoint {path} does not exist: train one with tools/train.py")


def set_test_split(cfg: Config, split: str) -> None:
    """Evaluate on another split.

    Args:
        cfg: ``test_dataloader`` is changed in place.
        split: ``train``, ``val`` or ``test``.
    """
    for loader, dataset in datasets_of(cfg):
        if loader == "test_dataloader":
            dataset["split"] = split
            dataset["test_mode"] = True


def set_result_files(cfg: Config, folder: Path) -> None:
    """Have the FROC metric of the test loop write its files.

    Args:
        cfg: ``test_evaluator`` is changed in place.
        folder: Where ``predictions.json``, ``froc.json`` and ``froc.png`` go.
    """
    evaluators = (
        cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    )
    for evaluator in evaluators:
        if evaluator["type"] == "FROCMetric":
            evaluator["predictions_file"] = str(folder / "predictions.json")
            evaluator["froc_file"] = str(folder / "froc.json")
            evaluator["plot_file"] = str(folder / "froc.png")


def add_overlays(cfg: Config, folder: str, score_threshold: float, limit: int | None) -> None:
    """Have overlays written while testing.

    Args:
        cfg: ``custom_hooks`` gets one hook more.
        folder: Where the overlays go.
        score_threshold: Lowest score that is drawn.
        limit: At most this many images; all if ``None``.
    """
    hook = {
        "type": "CTVisualizationHook",
        "out_dir": folder,
        "score_threshold": score_threshold,
        "max_images": limit,
    }
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), hook]
