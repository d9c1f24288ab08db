"""Whole configs: what is written, what it builds, how it compares with those written by hand."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import deeplesion  # noqa: F401
from deeplesion.engine.config import UsageError
from deeplesion.legacy.config import (
    ConvertedConfig,
    convert_config,
    load_text,
    published_config,
    read_bases,
)
from deeplesion.legacy.config_text import ConfigText, flatten, read_config, read_config_text
from deeplesion.legacy.expressions import Unread
from deeplesion.legacy.families import FAMILIES
from tests.deeplesion.legacy.mapping import fields, lost
from tests.deeplesion.legacy.published import FAMILY_NAMES, config_text

FOLDERS = {"align": "alignshift", "tsm": "tsm", "a3d": "a3d", "25d": "25d"}
BY_HAND = "configs/{0}/mask-rcnn_{0}-densenet121_3x2mm_20e_deeplesion.py"
# In what published configs differ from ours written by hand: means of training, not results.
LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
MEANS = {
    "auto_scale_lr.base_batch_size",
    "default_hooks.logger.interval",
    "model.backbone.memory_efficient",
    "train_dataloader.batch_size",
    "work_dir",
    *(f"{loader}.{name}" for loader in LOADERS for name in ("num_workers", "persistent_workers")),
}
JUNK: list[Any] = [
    None, 0, -1, 3.5, "x", [], {}, [1, 2], ["a"], [{}], {"type": "X"}, {"a": {"b": 1}}, True,
    Unread("f()"), [Unread("f()")], "train", 10**6,
]  # fmt: skip


def load(converted: ConvertedConfig, folder: Path) -> Config:
    """The config as it is read from its file."""
    path = folder / "leaf.py"
    path.write_text(converted.text("converted"))
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


def differing(a: Config, b: Config) -> dict[str, tuple]:
    """Fields in which two configs differ, but for variables, with both values."""
    left, right = (
        {k: v for k, v in flatten(cfg.to_dict()).items() if "_pipeline" not in k.split("[")[0]}
        for cfg in (a, b)
    )
    names = left.keys() | right.keys()
    pairs = {name: (left.get(name), right.get(name)) for name in names}
    return {
        k: v
        for k, v in pairs.items()
        if k != "load_slices" and json.dumps(v[0]) != json.dumps(v[1])
    }


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("slices", [3, 5, 7])
@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_converts_and_builds(
    name: str, slices: int, legacy: bool, repo_root: Path, tmp_path: Path
) -> None:
    old = read_config_text(config_text(name, slices))
    converted = convert_config(old, repo_root / "configs", legacy)
    assert not converted.failures
    assert not lost(converted.outcomes)
    assert set(flatten(old.values)) <= {outcome.field for outcome in converted.outcomes}
    cfg = load(converted, tmp_path)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == FAMILIES[name].backbone
    assert (type(model.rpn_head).__name__ == "V1RPNHead") == legacy
    assert model.neck.collapse.num_slices == (1 if name == "25d" else slices)
    assert cfg.model.test_cfg.rcnn.score_thr == 5e-5
    for loader in LOADERS:
        steps = cfg[loader].dataset.pipeline
        assert steps[0].num_slices == slices
        assert steps[0].get("legacy", False) == legacy
        assert steps[0].get("interpolate", "thin") == FAMILIES[name].interpolate
        assert "PackDetInputs" in [step.type for step in steps[-2:]]


def test_pipelines_of_a_converted_config_load_data(
    repo_root: Path, tmp_path: Path, synthetic_root: Path
) -> None:
    old = read_config_text(config_text("align"))
    cfg = load(convert_config(old, repo_root / "configs"), tmp_path)
    for loader in LOADERS:
        dataset = DATASETS.build({**cfg[loader].dataset, "data_root": str(synthetic_root)})
        sample = dataset[0]
        assert sample["inputs"].shape == (3, 512, 512)
        assert dataset.split == loader.removesuffix("_dataloader")


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_equals_the_config_written_by_hand(
    name: str, goldens: Path, repo_root: Path, tmp_path: Path
) -> None:
    old = read_config(goldens / f"detectors/{name}3/config_v1.json")
    converted = convert_config(old, repo_root / "configs", legacy=False)
    assert not lost(converted.outcomes)
    found = differing(
        load(converted, tmp_path), Config.fromfile(repo_root / BY_HAND.format(FOLDERS[name]))
    )
    threshold = "model.test_cfg.rcnn.score_thr"
    assert found.pop(threshold, (0.001,))[0] == old.values["test_cfg"]["rcnn"]["score_thr"]
    # Ours drops lesions of which less than a tenth is left in the image.
    visible = "train_dataloader.dataset.pipeline[3].min_visible"
    assert found.pop(visible) == (0.0, None)
    assert set(found) <= MEANS


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_text_and_plain_data_give_the_same(name: str, goldens: Path, repo_root: Path) -> None:
    values = json.loads((goldens / f"detectors/{name}3/config_v1.json").read_text())
    text = "\n".join(f"{key} = {value!r}" for key, value in values.items())
    one, other = (
        convert_config(old, repo_root / "configs")
        for old in (ConfigText(values), read_config_text(text))
    )
    assert one.text("") == other.text("")


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_published_settings_are_those_of_their_configs(
    name: str, goldens: Path, repo_root: Path, tmp_path: Path
) -> None:
    old = read_config(goldens / f"detectors/{name}3/config_v1.json")
    theirs = convert_config(old, repo_root / "configs", weights_only=True)
    ours = published_config(FAMILIES[name], 3, repo_root / "configs")
    found = differing(load(theirs, tmp_path), load(ours, tmp_path))
    found.pop("train_dataloader.dataset.pipeline[3].min_visible")
    assert set(found) <= MEANS


def test_differences_only(repo_root: Path) -> None:
    family = FAMILIES["align"]
    text = published_config(family, 3, repo_root / "configs").text("")
    assert "score_thr" not in text
    assert "optim_wrapper" not in text
    assert len(text.splitlines()) <= 25
    # Steps are written where they are others, and taken from the base where not.
    assert text.count("legacy=True") == 2
    assert "*_base_.test_pipeline[1:]" in text


def test_a_split_of_its_own_gets_its_own_pipeline(repo_root: Path, tmp_path: Path) -> None:
    values = fields()
    values["data"]["val"]["pre_pipeline"] = [{"type": "Resize", "img_scale": (256, 256)}]
    cfg = load(convert_config(ConfigText(values), repo_root / "configs"), tmp_path)
    scales = [cfg[f"{s}_dataloader"].dataset.pipeline[2].scale for s in ("val", "test")]
    assert scales == [(256, 256), (512, 512)]


def test_texts_that_are_no_configs_are_refused() -> None:
    assert load_text("a = 1\n").a == 1
    with pytest.raises(UsageError, match=r"^config made of it cannot be read: .*SyntaxError"):
        load_text("a = `x`\n")


def test_bases_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.py"):
        read_bases(tmp_path, ["none.py"])


def paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths to everything inside a value."""
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    return [p for k, v in items for p in ((*path, k), *paths(v, (*path, k)))]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_stands_in_a_config_is_accounted_for(seed: int, repo_root: Path) -> None:
    generator = random.Random(seed)
    original = fields(generator.choice(FAMILY_NAMES))
    for _ in range(30):
        values = copy.deepcopy(original)
        *parents, last = generator.choice(paths(values))
        inner: Any = values
        for key in parents:
            inner = inner[key]
        inner[last] = copy.deepcopy(generator.choice(JUNK))
        converted = convert_config(ConfigText(values), repo_root / "configs")
        assert set(flatten(values)) <= {outcome.field for outcome in converted.outcomes}
