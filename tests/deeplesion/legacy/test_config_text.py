"""Configs as text: fields, lines, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplesion.legacy.config_text import (
    ConfigTextError,
    Unread,
    flatten,
    read_config,
    read_config_text,
)
from tests.deeplesion.legacy.published import config_text


def test_reads_the_published_style() -> None:
    config = read_config_text(config_text("align", slices=7))
    values = config.values
    assert values["model"]["backbone"]["n_cts"] == 7
    assert values["model"]["rpn_head"]["loss_bbox"]["beta"] == 1.0 / 9.0
    assert values["pre_pipeline"][3]["mean"] == [0.0] * 7
    assert values["weights2d_path"] == (None,)
    assert values["work_dir"] == "./work_dirs/densenet_7"
    assert values["data"]["val"]["ann_file"] == Unread("data_root + 'val_ann.pkl'")
    # What is imported is not there to be read, and no field of the config.
    assert config.ignored == {2: "from deeplesion.ENVIRON import data_root"}
    assert "data_root" not in values
    assert {"data_root", "anchor_scales", "img_norm_cfg"} <= config.used


def test_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    text = f"import os\na = open({str(marker)!r}, 'w')\nb: int = 2\n'doc'\npass\n"
    config = read_config_text(text)
    assert not marker.exists()
    assert isinstance(config.values["a"], Unread)
    assert config.values["b"] == 2


@pytest.mark.parametrize(
    "text",
    ["optimizer = dict(type='os.system', command='true')", "a = [(dict(type='os.system'),)]"],
)
def test_types_that_would_be_imported_are_refused(text: str) -> None:
    with pytest.raises(ConfigTextError, match=r"name of a registered class, got 'os\.system'"):
        read_config_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [dict(_scope_='antigravity')]", "_scope_ is not allowed, got 'antigravity'"),
        ("a = {'b.type': 'this'}", "names must be text without dots, got 'b.type'"),
        ("a = {(open('x'),): 1}", r"names must be text without dots, got \(`open\('x'\)`,\)"),
        ("a = dict([((open('x'),), 1)])", "names must be text without dots"),
    ],
)
def test_names_that_would_be_more_than_names_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigTextError, match=message):
        read_config_text(text)


def test_a_name_that_is_imported_and_then_set_is_a_field() -> None:
    assert read_config_text("from x import a\na = 'mine'").values == {"a": "mine"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = (\n", "old.py, line 2: '\\(' was never closed"),
        ("for i in []:\n    a = 1", "old.py, line 1: only assignments are read, nothing is run"),
        ("a = {}\na['b'] = 1", "old.py, line 2: .*got `a\\['b'\\] = 1`"),
        ("a = 1\nexec('b = 2')", "old.py, line 2: .*got `exec\\('b = 2'\\)`"),
        ("_base_ = './x.py'", "old.py has a _base_: give the whole config"),
        ("a = 1\x00", "null bytes"),
        ("a = " + "(" * 1000 + ")" * 1000, "old.py"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigTextError, match=message):
        read_config_text(text, "old.py")


def test_lists_that_grow_beyond_memory_are_refused() -> None:
    lines = ["a0 = [1]", *(f"a{i + 1} = [a{i}, a{i}]" for i in range(20_000))]
    with pytest.raises(ConfigTextError, match="must hold at most 100000 values, got more"):
        read_config_text("\n".join(lines[:40]))
    with pytest.raises(ConfigTextError, match="must be nested at most 50 deep, got 20002"):
        read_config_text("\n".join(lines))


def test_reads_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = dict(b=1)\n")
    (tmp_path / "a.json").write_text('{"a": {"b": 1}}')
    assert read_config(tmp_path / "a.py").values == read_config(tmp_path / "a.json").values
    with pytest.raises(FileNotFoundError, match=r"config .*none.py does not exist"):
        read_config(tmp_path / "none.py")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"a":\n 1,}', r"a.json, line 2: "),
        (
            "a.json",
            b'{"a":' + b"[" * 99 + b"]" * 99 + b"}",
            "must be nested at most 50 deep, got 100",
        ),
        ("a.json", b"[1]", "must hold an object, got a list"),
        ("a.py", b"a = '\xff'", "a.py is not text"),
        ("a.py", b"a = 1\n)", r"a.py, line 2: unmatched"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigTextError, match=message):
        read_config(tmp_path / name)


def test_fields_have_paths() -> None:
    values = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": 1}, 3], "g": []}
    assert flatten(values) == {"a.b": 1, "a.c": {}, "d": [1, 2], "e[0].f": 1, "e[1]": 3, "g": []}
