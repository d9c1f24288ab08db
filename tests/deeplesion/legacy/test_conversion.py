"""Files of published checkpoints into ours, with their configs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS

import deeplesion  # noqa: F401
from deeplesion.engine.checkpoint import CheckpointError, describe_operators, read_checkpoint
from deeplesion.engine.config import load_config
from deeplesion.legacy.conversion import Conversion, Options, convert_content, convert_file
from deeplesion.legacy.description import describe
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


LOSS = "loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)"
OPTIMIZER = "optimizer = dict(type='SGD', lr=0.02, "
UNKNOWN = "it is no loss, assigner, sampler, optimizer or nms that is known here"


def convert_changed(
    old: str, new: str, options: Options, folder: Path, name: str = "tsm"
) -> Conversion:
    """Convert a file with something else in its config."""
    content = checkpoint(name)
    assert old in content["meta"]["config"]
    content["meta"]["config"] = content["meta"]["config"].replace(old, new)
    torch.save(content, folder / "a.pth")
    return convert_file(folder / "a.pth", folder / "b.pth", options)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (LOSS, "loss_cls=dict(type='hostile')", UNKNOWN),
        (LOSS, "loss_cls=dict(type='hostile.run')", "name of a registered class"),
        (LOSS, "loss_cls=dict(type='SmoothL1Loss', _scope_='hostile')", "_scope_ is not allowed"),
        (LOSS, "loss_cls=dict(type=dict(type='SmoothL1Loss'))", UNKNOWN),
        ("type='RandomSampler'", "type='hostile'", UNKNOWN),
        ("type='MaxIoUAssigner'", "type='MaxIoUAssigner', iou=dict(type='hostile')", UNKNOWN),
    ],
)
def test_what_a_config_would_have_run_is_refused(
    old: str,
    new: str,
    message: str,
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CheckpointError, match=f"the config in its meta.*{message}"):
        convert_changed(old, new, options, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "hostile.py"]


def test_what_a_config_holds_beside_is_not_run(options: Options, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    # mmengine puts what stands after the colon into the text, without the quotes around it.
    run = f"open(bytes({[*bytes(marker)]}),bytes([119]).decode())"
    text = f"{{{{$NONE:A|\\',b={run},#\"}}}}"
    settings = f"note={text!r}, names={{'{{{{ fileBasename }}}}': 1}}, "
    convert_changed(OPTIMIZER, OPTIMIZER + settings, options, tmp_path)
    optimizer = load_config(str(tmp_path / "b.py"), None, None).optim_wrapper.optimizer
    assert (optimizer.note, optimizer.names) == (text, {"{{ fileBasename }}": 1})
    convert_changed(OPTIMIZER, f"{OPTIMIZER}note={run}, ", options, tmp_path)
    assert not marker.exists()


def test_names_of_files_are_not_run(options: Options, tmp_path: Path) -> None:
    # Its default ends the comment that the name stands in.
    source = tmp_path / "{{$NONE:A\nb = 1 #}}.pth"
    torch.save(checkpoint("a3d"), source)
    target = tmp_path / "{{ fileDirname }}.pth"
    convert_file(source, target, options)
    assert "b" not in load_config(str(target.with_suffix(".py")), None, None)


def test_an_optimizer_that_is_not_known_is_told(options: Options, tmp_path: Path) -> None:
    conversion = convert_changed(
        OPTIMIZER, OPTIMIZER.replace("SGD", "Mine"), options, tmp_path, "a3d"
    )
    assert f"optim_wrapper.optimizer  'Mine'  not mapped: {UNKNOWN}" in "\n".join(
        re.sub(" {2,}", "  ", line) for line in describe(conversion)
    )
    assert load_config(str(tmp_path / "b.py"), None, None).optim_wrapper.optimizer.type == "SGD"


def without_masks(content: dict[str, Any], *parts: str) -> dict[str, Any]:
    """A file whose config, weights or both have no masks."""
    if "config" in parts:
        head, tail = content["meta"]["config"].split("    mask_roi_extractor=")
        tail = tail.partition("train_cfg = dict")[2]
        extractor = "dict(type='SingleRoIExtractor', out_channels=feature_channel)"
        content["meta"]["config"] = (
            f"{head}    mask_roi_extractor={extractor}, mask_head=None)\ntrain_cfg = dict{tail}"
        )
    if "weights" in parts:
        state = content["state_dict"]
        content["state_dict"] = {k: v for k, v in state.items() if not k.startswith("mask_head.")}
    return content


def test_weights_and_config_must_agree_about_masks(options: Options, tmp_path: Path) -> None:
    one, other = (without_masks(checkpoint("align"), part) for part in ("weights", "config"))
    message = "its weights have no mask head, the config in its meta has one; --ignore-config"
    with pytest.raises(CheckpointError, match=message):
        convert_content(one, options)
    message = "its weights have a mask head, the config in its meta has none; --ignore-config"
    with pytest.raises(CheckpointError, match=message):
        convert_content(other, options)
    torch.save(without_masks(checkpoint("align"), "weights", "config"), tmp_path / "a.pth")
    convert_file(tmp_path / "a.pth", tmp_path / "b.pth", options)
    cfg = load_config(str(tmp_path / "b.py"), None, None)
    assert cfg.model.roi_head.mask_head is None
    assert cfg.model.roi_head.mask_roi_extractor is None


def test_a_config_that_is_ignored_is_not_said_to_be_missing(options: Options) -> None:
    message = "have the same weights, and its config is ignored: give --operator align or"
    with pytest.raises(CheckpointError, match=message):
        convert_content(checkpoint("align"), change(options, ignore_config=True))


@pytest.mark.parametrize("classes", [5, [], {}, [1], None])
def test_classes_that_are_none_are_taken_for_lesions(
    classes: object, options: Options, tmp_path: Path
) -> None:
    content = checkpoint("tsm")
    content["meta"]["CLASSES"] = classes
    torch.save(content, tmp_path / "a.pth")
    convert_file(tmp_path / "a.pth", tmp_path / "b.pth", options)
    meta = read_checkpoint(tmp_path / "b.pth")["meta"]
    assert meta["dataset_meta"] == {"classes": ("lesion",)}


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
