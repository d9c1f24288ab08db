"""Command-line options and configs."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from deeplesion.engine import config

SMALL = "configs/alignshift/mask-rcnn_alignshift-densenet-small_7x2mm_500it_synthetic.py"


def load(repo_root: Path, options: dict | None = None, data_root: str | None = None) -> Config:
    return config.load_config(str(repo_root / SMALL), options, data_root)


def test_data_root_reaches_every_dataset(repo_root: Path) -> None:
    for cfg in (load(repo_root, data_root="/x"), load(repo_root, {"data_root": "/x"})):
        roots = {loader: dataset["data_root"] for loader, dataset in config.datasets_of(cfg)}
        assert roots == dict.fromkeys(config.DATALOADERS, "/x")


def test_data_root_reaches_a_wrapped_dataset() -> None:
    inner = {"type": "DeepLesionDataset", "data_root": "a"}
    cfg = Config(
        {"train_dataloader": {"dataset": {"type": "RepeatDataset", "times": 2, "dataset": inner}}}
    )
    config.set_data_root(cfg, "b")
    assert cfg.train_dataloader.dataset.dataset.data_root == "b"


def test_data_root_from_the_environment(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLESION_ROOT", "/from/environment")
    assert load(repo_root).train_dataloader.dataset.data_root == "/from/environment"


def test_missing_data_root_says_how_to_make_one(repo_root: Path, tmp_path: Path) -> None:
    cfg = load(repo_root, data_root=str(tmp_path / "none"))
    with pytest.raises(config.UsageError, match=r"none' of train_dataloader.*make_synthetic\.py"):
        config.check_data_root(cfg)
    config.check_data_root(cfg, loaders=())


def test_missing_config_is_named() -> None:
    with pytest.raises(config.UsageError, match=r"nothing\.py does not exist"):
        config.load_config("nothing.py", None, None)


def test_work_dir_priorities() -> None:
    cfg = Config({})
    config.set_work_dir(cfg, "configs/a/b.py", None)
    assert cfg.work_dir == "work_dirs/b"
    config.set_work_dir(cfg, "configs/a/b.py", "here")
    assert cfg.work_dir == "here"


def test_auto_scale_lr_needs_a_base(repo_root: Path) -> None:
    cfg = load(repo_root)
    config.use_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable
    with pytest.raises(config.UsageError, match="base_batch_size"):
        config.use_auto_scale_lr(Config({}))


def test_test_split_and_result_files(repo_root: Path, tmp_path: Path) -> None:
    cfg = load(repo_root)
    config.set_test_split(cfg, "val")
    config.set_result_files(cfg, tmp_path)
    assert cfg.test_dataloader.dataset.split == "val"
    assert cfg.train_dataloader.dataset.split == "train"
    assert cfg.test_evaluator.predictions_file == str(tmp_path / "predictions.json")
    assert "predictions_file" not in cfg.val_evaluator
