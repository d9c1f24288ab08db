"""Command-line options and configs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from deeplesion.engine import config

RESNET = "configs/alignshift/mask-rcnn_alignshift-r50-fpn_7x2mm_20e_deeplesion.py"
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


def test_data_root_reaches_joined_datasets() -> None:
    joined = [{"type": "DeepLesionDataset", "data_root": "a", "split": s} for s in ("val", "test")]
    dataset = {"type": "ConcatDataset", "datasets": joined}
    cfg = Config({"test_dataloader": {"dataset": dataset}, "val_dataloader": None})
    config.set_data_root(cfg, "b")
    assert [leaf.data_root for leaf in cfg.test_dataloader.dataset.datasets] == ["b", "b"]
    assert config.test_split_of(cfg) == "val"


def test_data_root_from_the_environment(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLESION_ROOT", "/from/environment")
    assert load(repo_root).train_dataloader.dataset.data_root == "/from/environment"


def test_missing_data_root_says_how_to_make_one(repo_root: Path, tmp_path: Path) -> None:
    cfg = load(repo_root, data_root=str(tmp_path / "none"))
    with pytest.raises(config.UsageError, match=r"none' of train_dataloader.*make_synthetic\.py"):
        config.check_data_root(cfg)
    config.check_data_root(cfg, loaders=())


def test_empty_data_root_is_none(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(config.UsageError, match="data root '' of train_dataloader"):
        config.check_data_root(load(repo_root, data_root=""))
    monkeypatch.setenv("DEEPLESION_ROOT", "")
    with pytest.raises(config.UsageError, match="DEEPLESION_ROOT is set to nothing: unset it"):
        load(repo_root)


def test_no_workers_do_not_persist(repo_root: Path) -> None:
    cfg = load(repo_root, {"train_dataloader.num_workers": 0})
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.val_dataloader.persistent_workers is True


def test_unknown_backbone_and_operator_list_the_known_ones(repo_root: Path) -> None:
    message = r"got 'DenseNetTypo': SliceBackbone \(operators: A3DConv, .*DenseNetCustomTrunc, "
    with pytest.raises(config.UsageError, match=message):
        load(repo_root, {"model.backbone.type": "DenseNetTypo"})
    message = r"operator must be one of A3DConv, .*TSMConv, got 'NoConv'"
    with pytest.raises(config.UsageError, match=message):
        load(
            repo_root,
            {"model.backbone.type": "DenseNetTrunc3d", "model.backbone.operator": "NoConv"},
        )
    load(repo_root, {"model.backbone.type": "ResNet"})


def test_operator_is_swapped_by_one_option(repo_root: Path) -> None:
    name = "model.backbone.operator"
    cfg = config.load_config(str(repo_root / RESNET), {f"{name}.type": "TSMConv"}, None)
    assert cfg.model.backbone.operator == {"type": "TSMConv"}
    options = {f"{name}.type": "TSMConv", f"{name}.ref_thickness": 5.0}
    message = r"settings of TSMConv \(n_fold, .*\), got ref_thickness"
    with pytest.raises(config.UsageError, match=message):
        config.load_config(str(repo_root / RESNET), options, None)


@pytest.mark.parametrize("part", ["backbone", "neck.0"])
def test_numbers_of_slices_of_wrapped_backbone_and_neck_count(repo_root: Path, part: str) -> None:
    with pytest.raises(config.UsageError, match=rf"model\.{part}\.num_slices=5"):
        config.load_config(str(repo_root / RESNET), {f"model.{part}.num_slices": 5}, None)


@pytest.mark.parametrize(
    ("cuda", "native", "train", "test"),
    [
        (False, False, "BFloat16OptimWrapper", "bfloat16"),
        (True, True, "BFloat16OptimWrapper", "bfloat16"),
        (True, False, "GuardedAmpOptimWrapper", "float16"),
    ],
)
def test_mixed_precision_is_bfloat16_unless_only_emulated(
    repo_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool,
    native: bool,
    train: str,
    test: str,
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    cfg = load(repo_root)
    config.use_amp(cfg)
    config.use_test_amp(cfg)
    assert cfg.optim_wrapper.type == train
    assert cfg.optim_wrapper.get("loss_scale") == ("dynamic" if test == "float16" else None)
    assert (cfg.test_cfg.type, cfg.test_cfg.dtype) == ("AutocastTestLoop", test)


@pytest.mark.parametrize("number", [4, 5])
def test_numbers_of_slices_must_agree_and_be_odd(repo_root: Path, number: int) -> None:
    place = "val_dataloader.dataset.pipeline.0.num_slices"
    with pytest.raises(config.UsageError, match=f"odd and the same everywhere.*{place}={number}"):
        load(repo_root, {place: number})


def test_models_without_a_backbone_of_their_own_are_left_alone() -> None:
    config.check_num_slices(Config({"model": {"type": "SemiBaseDetector", "detector": {}}}))


def test_missing_config_is_named() -> None:
    with pytest.raises(config.UsageError, match=r"nothing\.py does not exist"):
        config.load_config("nothing.py", None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", r"a\.py cannot be read: SyntaxError: "),
        ("a = 1 / 0", r"a\.py cannot be read: ZeroDivisionError: division by zero"),
        ("_base_ = 'none.py'", r"a\.py cannot be read: FileNotFoundError: .*none\.py"),
        ("model = [1, 2]", r"a\.py: model must be a dict, got a list"),
    ],
)
def test_broken_configs_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(config.UsageError, match=message):
        config.load_config(str(tmp_path / "a.py"), None, None)


def test_other_files_are_no_configs(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(config.UsageError, match=r"x\.txt cannot be read: OSError: Only py"):
        config.load_config(str(tmp_path / "x.txt"), None, None)


def test_work_dir_priorities() -> None:
    cfg = Config({})
    config.set_work_dir(cfg, "configs/a/b.py", None)
    assert cfg.work_dir == "work_dirs/b"
    config.set_work_dir(cfg, "configs/a/b.py", "here")
    assert cfg.work_dir == "here"
    config.set_work_dir(cfg, "configs/a/b.py", None, "val")
    assert cfg.work_dir == "here"
    cfg = Config({})
    config.set_work_dir(cfg, "configs/a/b.py", None, "val")
    assert cfg.work_dir == "work_dirs/b/val"


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
    assert config.test_split_of(cfg) == "val"


def test_masks_are_saved_where_the_model_has_them(repo_root: Path, tmp_path: Path) -> None:
    cfg = load(repo_root)
    config.set_result_files(cfg, tmp_path)
    assert cfg.test_evaluator.save_masks is True
    cfg.model.roi_head.mask_head = None
    config.set_result_files(cfg, tmp_path)
    assert cfg.test_evaluator.save_masks is False
    del cfg.model["roi_head"]
    config.set_result_files(cfg, tmp_path)
    assert cfg.test_evaluator.save_masks is False


def test_overlays_leave_the_other_hooks(repo_root: Path) -> None:
    cfg = load(repo_root)
    before = [hook.type for hook in cfg.custom_hooks]
    config.add_overlays(cfg, "show", 0.3, 5)
    assert [hook.type for hook in cfg.custom_hooks] == [*before, "CTVisualizationHook"]
