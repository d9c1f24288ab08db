"""Config files of differences."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from deeplesion.legacy.leaf import (
    MISSING,
    Code,
    base_path,
    by_reference,
    difference,
    nest,
    render_leaf,
    value_at,
)


def test_value_at_a_path() -> None:
    assert value_at({"a": {"b": 1}}, "a.b") == 1
    assert value_at({"a": {"b": 1}}, "a.b.c") is MISSING
    assert value_at({}, "a", 3) == 3


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (1, 1, MISSING),
        ((1, [2]), [1, (2,)], MISSING),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 2}),
        ({"a": 1}, {"b": 1}, {"_delete_": True, "a": 1}),
        ({"a": 1}, None, {"a": 1}),
        (None, {"a": 1}, None),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": 2}),
    ],
)
def test_difference(new: object, old: object, expected: object) -> None:
    found = difference(new, old)
    assert found is MISSING if expected is MISSING else found == expected


def test_nests_paths() -> None:
    assert nest({"a.b": {"x": 1}, "a.b.c": 2, "d": 3}) == {"a": {"b": {"x": 1, "c": 2}}, "d": 3}


@pytest.mark.parametrize(
    ("items", "written"),
    [
        ([1, 2, 3], ["*k[:]"]),
        ([9, 2, 3], [9, "*k[1:]"]),
        ([1, 2, 9], ["*k[:2]", 9]),
        ([2, 9, 1], ["k[1]", 9, "k[0]"]),
        ([], []),
    ],
)
def test_refers_to_what_is_there(items: list, written: list) -> None:
    found = by_reference(items, [1, 2, 3], "k")
    assert found == written
    assert all(isinstance(item, Code) for item in found if isinstance(item, str))


def test_file_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/base.py").write_text("a = dict(b=1, c=dict(d=2))\nsteps = [1, 2, 3]\n")
    values = {
        "steps": by_reference([0, 2, 3], [1, 2, 3], "_base_.steps"),
        "a": {"c": {"_delete_": True, "e": (1,), "f g": None}, "text": 'it\'s "so"\n'},
        "long": {"items": ["x" * 30] * 4, "used": Code("steps")},
    }
    text = render_leaf("one\ntwo", [base_path(tmp_path / "configs", "base.py")], values)
    assert text.startswith("# one\n# two\n_base_ = ")
    assert max(map(len, text.splitlines())) <= 100 + len(str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/leaf.py").write_text(text)
    cfg = Config.fromfile(tmp_path / "elsewhere/leaf.py")
    assert cfg.steps == [0, 2, 3]
    assert cfg.a == {"b": 1, "c": {"e": (1,), "f g": None}, "text": 'it\'s "so"\n'}
    assert cfg.long == {"items": ["x" * 30] * 4, "used": [0, 2, 3]}


@pytest.mark.parametrize(
    "value",
    [
        "{{$HOME:x}}",
        "{{{ fileBasename }}}",
        "{{ _base_.a }}",
        r"{{$NONE:A|\',b=print(1),#\"}}",
        {"lambda": 1, "class": {"{{$HOME:x}}": 2}},
        float("inf"),
        -float("inf"),
    ],
)
def test_values_of_strangers_stay_values(value: object, tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("a = 1\n")
    text = render_leaf(f"of {value}", [base_path(tmp_path, "base.py")], {"got": {"it": value}})
    (tmp_path / "leaf.py").write_text(text)
    assert Config.fromfile(tmp_path / "leaf.py").got.to_dict() == {"it": value}


@pytest.mark.parametrize("folder", ["configs", "with space", "c++"])
def test_folder_of_configs_may_have_any_name(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "base.py").write_text("a = 1\n")
    leaf = tmp_path / "leaf.py"
    leaf.write_text(render_leaf("", [base_path(tmp_path / folder, "base.py")], {}))
    assert Config.fromfile(leaf).a == 1


def test_moved_configs_are_found_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved/base.py").write_text("a = 2\n")
    leaf = tmp_path / "leaf.py"
    leaf.write_text(render_leaf("", [base_path(tmp_path / "old", "base.py")], {}))
    with pytest.raises(FileNotFoundError, match=r"old/base\.py"):
        Config.fromfile(leaf)
    monkeypatch.setenv("ALIGNSHIFT_CONFIGS", str(tmp_path / "moved"))
    assert Config.fromfile(leaf).a == 2
