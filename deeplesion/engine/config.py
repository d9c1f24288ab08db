"""What command-line options do to a config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from deeplesion.engine.config_text import WrittenConfig
from deeplesion.engine.network_config import check_backbone, network_slices

DATALOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
DATA_ROOT_VARIABLE = "DEEPLESION_ROOT"
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
        UsageError: There is no such file, it is no config, its backbone or operator is not known,
            the operator does not take its settings, its parts differ in ``num_slices``, or
            ``DEEPLESION_ROOT`` is empty.
    """
    if not Path(path).is_file():
        raise UsageError(f"config {path} does not exist: the configs are in configs/")
    if os.environ.get(DATA_ROOT_VARIABLE) == "":
        raise UsageError(
            f"{DATA_ROOT_VARIABLE} is set to nothing: unset it, or set it to a data set's folder"
        )
    cfg = _read(path)
    if options:
        cfg.merge_from_dict(options)
    if data_root is None:
        data_root = (options or {}).get("data_root")
    if data_root is not None:
        set_data_root(cfg, data_root)
    settle_workers(cfg)
    try:
        check_backbone((cfg.get("model") or {}).get("backbone") or {})
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_num_slices(cfg)
    return WrittenConfig.of(cfg)


def _read(path: str) -> Config:
    """A config file that was run, whatever came of it."""
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"config {path} cannot be read: {what}") from error
    if not isinstance(model := cfg.get("model") or {}, dict):
        raise UsageError(f"config {path}: model must be a dict, got a {type(model).__name__}")
    return cfg


def settle_workers(cfg: Config) -> None:
    """Let ``num_workers=0`` be enough: PyTorch refuses ``persistent_workers`` without workers.

    Args:
        cfg: The dataloaders are changed in place.
    """
    for name in DATALOADERS:
        loader = cfg.get(name) or {}
        if loader.get("num_workers") == 0:
            loader["persistent_workers"] = False


def innermost(dataset: dict | None) -> list[dict]:
    """Datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    if not dataset:
        return []
    inner = [*dataset.get("datasets", []), *filter(None, [dataset.get("dataset")])]
    return [leaf for one in inner for leaf in innermost(one)] if inner else [dataset]


def datasets_of(cfg: Config) -> list[tuple[str, dict]]:
    """Name of the dataloader and config of each innermost dataset (wrappers are looked through)."""
    return [
        (loader, dataset)
        for loader in DATALOADERS
        for dataset in innermost((cfg.get(loader) or {}).get("dataset"))
    ]


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
        if loader in loaders and not (root and Path(root).is_dir()):
            raise UsageError(f"data root {root!r} of {loader} does not exist: {DATA_ROOT_REMEDY}")


def set_work_dir(cfg: Config, config_path: str, work_dir: str | None, subfolder: str = "") -> None:
    """Choose the folder of logs and checkpoints: the option, the config, or the config's name.

    Args:
        cfg: Changed in place.
        config_path: The config file.
        work_dir: ``--work-dir``.
        subfolder: Below the folder of the config's name.
    """
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = str(Path("work_dirs") / Path(config_path).stem / subfolder)


def has_bfloat16() -> bool:
    """Whether the device computes in bfloat16 itself; older GPUs only emulate it, slowly."""
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


def use_amp(cfg: Config) -> None:
    """Train in mixed precision: bfloat16 where the device has it, else float16 with scaling.

    Args:
        cfg: ``optim_wrapper`` is changed in place.
    """
    if has_bfloat16():
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"
    else:
        cfg.optim_wrapper.type = "GuardedAmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = "dynamic"


def use_test_amp(cfg: Config) -> None:
    """Test in the mixed precision that :func:`use_amp` trains in.

    Args:
        cfg: ``test_cfg`` is changed in place.
    """
    cfg.test_cfg.type = "AutocastTestLoop"
    cfg.test_cfg.dtype = "bfloat16" if has_bfloat16() else "float16"


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


def test_split_of(cfg: Config) -> str:
    """Split that the test dataloader reads; empty where its dataset has none."""
    splits = [d.get("split") for loader, d in datasets_of(cfg) if loader == "test_dataloader"]
    return (splits[0] or "") if splits else ""


def check_num_slices(cfg: Config) -> None:
    """Find, before anything is built, that loaders and network differ in the number of slices.

    Raises:
        UsageError: They differ, or the number is even; it names each place.
    """
    found = {}
    for loader, dataset in datasets_of(cfg):
        for index, step in enumerate(dataset.get("pipeline", [])):
            if step["type"] == "LoadCTSlices":
                found[f"{loader}.dataset.pipeline.{index}"] = step.get("num_slices")
    found |= network_slices(cfg.get("model") or {})
    if len(set(found.values())) > 1 or any(n is None or n % 2 == 0 for n in found.values()):
        places = ", ".join(f"{place}.num_slices={number}" for place, number in found.items())
        raise UsageError(f"num_slices must be odd and the same everywhere, got {places}")


def evaluators_of(cfg: Config) -> list[dict]:
    """Configs of the metrics of the test loop."""
    evaluators = cfg.test_evaluator
    return evaluators if isinstance(evaluators, list) else [evaluators]


def set_result_files(cfg: Config, folder: Path) -> None:
    """Have the FROC metric of the test loop write its files, with masks if the model has them.

    Args:
        cfg: ``test_evaluator`` is changed in place.
        folder: Where ``predictions.json``, ``froc.json`` and ``froc.png`` go.
    """
    for evaluator in evaluators_of(cfg):
        if evaluator["type"] == "FROCMetric":
            evaluator["predictions_file"] = str(folder / "predictions.json")
            evaluator["froc_file"] = str(folder / "froc.json")
            evaluator["plot_file"] = str(folder / "froc.png")
            evaluator["provenance"] = {
                "config": Path(cfg.filename or "").name,
                "checkpoint": Path(cfg.get("load_from") or "").name,
                "split": test_split_of(cfg),
            }
            if views := cfg.test_cfg.get("views"):
                evaluator["provenance"]["views"] = list(views)
            evaluator["save_masks"] = bool((cfg.model.get("roi_head") or {}).get("mask_head"))


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
