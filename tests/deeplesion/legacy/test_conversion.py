"""Files of published checkpoints into ours, with their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

import deeplesion  # noqa: F401
from deeplesion.engine.checkpoint import CheckpointError, describe_operators, read_checkpoint
from deeplesion.engine.config import load_config
from deeplesion.legacy.conversion import Conversion, Options, convert_content, convert_file
from deeplesion.legacy.files import file_hash
from tests.deeplesion.legacy.published import FAMILY_NAMES, checkpoint, config_text, state_dict

OPERATORS = {"align": ["AlignShiftConv"], "tsm": ["TSMConv"], "a3d": ["A3DConv"], "25d": []}


@pytest.fixture
def options(repo_root: Path) -> Options:
    return Options(repo_root / "configs")


def change(options: Options, **changes: Any) -> Options:
    return Options(**{**vars(options), **changes})


@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_writes_weights_that_fit_the_config(name: str, options: Options, tmp_path: Path) -> None:
    source, target = tmp_path / "published.pth", tmp_path / "new folder/ours.pth"
    torch.save(checkpoint(name, 7), source)
    conversion = convert_file(source, target, options)
    assert (conversion.family.name, conversion.network.num_slices) == (name, 7)
    content = read_checkpoint(target)
    assert content["meta"]["converted_from"] == {
        "file": "published.pth",
        "sha256": file_hash(source),
    }
    assert content["meta"]["versions"]["torch"] == torch.__version__
    assert content["meta"]["dataset_meta"] == {"classes": ("lesion",)}
    assert list(content["meta"]["operators"]) == OPERATORS[name]
    cfg = load_config(str(target.with_suffix(".py")), None, None)
    model = MODELS.build(cfg.model)
    model.load_state_dict(content["state_dict"], strict=True)
    assert describe_operators(model) == content["meta"]["operators"]
    assert cfg.model.backbone.get("init_cfg") is None
    assert cfg.get("work_dir") is None
    assert cfg.model.test_cfg.rcnn.score_thr == 5e-5


def test_operator_of_alike_weights_is_asked_for(options: Options) -> None:
    content = {"state_dict": state_dict("align")}
    with pytest.raises(CheckpointError, match="give --operator align or --operator tsm"):
        convert_content(content, options)
    for name in ("align", "tsm"):
        assert convert_content(content, change(options, operator=name)).family.name == name
    with pytest.raises(CheckpointError, match=r"of AlignShift or TSM, but .* say a3d"):
        convert_content(content, change(options, operator="a3d"))


@pytest.mark.parametrize("name", ["a3d", "25d"])
def test_other_weights_tell_their_operator(name: str, options: Options) -> None:
    conversion = convert_content({"state_dict": state_dict(name, 5)}, options)
    assert (conversion.family.name, conversion.config.outcomes) == (name, [])


def test_weights_and_config_must_agree(options: Options) -> None:
    content = checkpoint("align")
    content["meta"]["config"] = config_text("a3d")
    with pytest.raises(CheckpointError, match=r"of AlignShift or TSM, but .* say a3d"):
        convert_content(content, options)
    content["meta"]["config"] = config_text("align", slices=7)
    with pytest.raises(CheckpointError, match=r"num_slices is 3 by its weights and 7 by the conf"):
        convert_content(content, options)
    with pytest.raises(CheckpointError, match=r"say align and tsm; --ignore-config"):
        convert_content(checkpoint("align"), change(options, operator="tsm"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = (", "the config in its meta: the config, line 1: "),
        ("model = dict(type='SSD')", "cannot be mapped: model.type='SSD'"),
    ],
)
def test_configs_that_cannot_be_used_are_ignored_on_request(
    text: str, message: str, options: Options
) -> None:
    content = checkpoint("a3d")
    content["meta"]["config"] = text
    with pytest.raises(CheckpointError, match=message) as error:
        convert_content(content, options)
    assert "--ignore-config takes the settings of the papers" in str(error.value)
    ignored = convert_content(content, change(options, ignore_config=True))
    assert isinstance(ignored, Conversion)


def test_the_config_of_a_meta_is_not_run(options: Options, tmp_path: Path) -> None:
    content, marker = checkpoint("tsm"), tmp_path / "marker"
    content["meta"]["config"] += f"\nspy = open({str(marker)!r}, 'w')\n"
    conversion = convert_content(content, options)
    assert not marker.exists()
    assert conversion.file.meta["config"].endswith("'w')\n")


def test_incomplete_weights_are_refused_by_name(options: Options, tmp_path: Path) -> None:
    content = checkpoint("tsm")
    content["state_dict"]["rpn_head.rpn_cls.bias"] = torch.zeros(15)
    del content["state_dict"]["backbone.norm0.bias"]
    source, target = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(content, source)
    message = (
        r"a.pth cannot be converted: its weights are not those of the network that it seems to be: "
        r"1 missing \(backbone.norm0.bias\); 1 of another shape \(rpn_head.rpn_cls.bias"
    )
    with pytest.raises(CheckpointError, match=message):
        convert_file(source, target, options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


def test_networks_that_cannot_be_built_are_refused(options: Options, tmp_path: Path) -> None:
    content = checkpoint("tsm")
    content["meta"]["config"] = config_text("tsm").replace("n_fold=8", "n_fold=1")
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"the network of its config cannot be built: n_fold"):
        convert_file(tmp_path / "a.pth", tmp_path / "b.pth", options)
