"""tools/convert_config.py as a user runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deeplesion.engine.config import load_config
from tests.deeplesion.legacy.published import config_text
from tests.tools.running import error_line, run_tool
from tools.convert_config import main

TOOL = "tools/convert_config.py"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A config of the published code."""
    path = tmp_path / "old.py"
    path.write_text(config_text("align", 7), encoding="utf-8")
    return path


def test_converts_and_tells_of_every_field(old: Path) -> None:
    old.write_text(old.read_text() + "mystery = dict(a=1, b=[2])\n")
    result = run_tool(TOOL, "old.py", "folder/new.py", cwd=old.parent, fresh=True)
    assert result.returncode == 0, result.stderr
    out = result.stdout
    assert re.search(
        r"^model\.backbone\.n_cts +7 +mapped: model\.neck\.num_slices$", out, re.MULTILINE
    )
    assert re.search(r"^data\.train\.pre_pipeline\[0\]\.keymap\.img .* dropped: ", out, re.M)
    assert re.search(r"^mystery\.b +\[2\] +not mapped: nothing here has it$", out, re.M)
    assert "line 2 is not run: from deeplesion.ENVIRON import data_root" in out
    assert re.search(r"^\d+ fields: \d+ mapped, \d+ dropped, 2 not mapped$", out, re.MULTILINE)
    text = (old.parent / "folder/new.py").read_text()
    assert text.startswith("# Converted from old.py by tools/convert_config.py,\n# with the num")
    cfg = load_config(str(old.parent / "folder/new.py"), None, None)
    assert cfg.model.rpn_head.type == "V1RPNHead"
    assert cfg.train_dataloader.dataset.pipeline[0].legacy


def test_modern_numerics(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = old.with_name("new.py")
    assert main([str(old), str(new), "--modern"]) == 0
    cfg = load_config(str(new), None, None)
    assert cfg.model.rpn_head.type == "JointRPNHead"
    assert "legacy" not in cfg.test_dataloader.dataset.pipeline[0]
    with pytest.raises(SystemExit):
        main([str(old), str(new), "--modern", "--legacy"])
    assert "not allowed with" in capsys.readouterr().err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line with which the tool refuses."""
    assert main([*map(str, arguments)]) == 1
    return error_line(capsys.readouterr().err)


def test_essential_fields_that_cannot_be_mapped_stop_it(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old.write_text(old.read_text().replace("num_fcs=2", "num_fcs=3"))
    new = old.with_name("new.py")
    assert main([str(old), str(new)]) == 1
    printed = capsys.readouterr()
    assert re.search(r"^! model\.bbox_head\.num_fcs +3 +not mapped: only 2", printed.out, re.M)
    line = error_line(printed.err)
    assert "1 essential fields (marked !) could not be mapped and nothing was written" in line
    assert line.endswith("the first: model.bbox_head.num_fcs: only 2 is supported")
    assert not new.exists()


def test_mistakes_are_told_in_a_line(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = old.with_name("new.py")
    assert refusal(capsys, "none.py", new) == "error: config none.py does not exist"
    broken = old.with_name("broken.py")
    broken.write_text("a = 1\nb = dict(\n")
    assert refusal(capsys, broken, new) == f"error: {broken}, line 2: '(' was never closed"
    assert "NEW.py must end in .py" in refusal(capsys, old, "new.yaml")
    new.write_text("mine = 1\n")
    assert "new.py exists: give --overwrite to replace it" in refusal(capsys, old, new)
    assert new.read_text() == "mine = 1\n"
    assert main([str(old), str(new), "--overwrite"]) == 0
    assert "mine" not in new.read_text()


def test_the_old_config_is_not_replaced(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = old.read_text()
    line = refusal(capsys, old, old, "--overwrite")
    assert line == f"error: {old} is what is to be converted: give another name"
    assert old.read_text() == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("d={(open('x'),): 1}", "names must be text without dots"),
        ("type='this'", "'this'"),
        ("d=1e999j", "config made of it cannot be read: "),
    ],
)
def test_configs_that_could_not_be_loaded_are_not_written(
    change: str, message: str, old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = old.read_text()
    loss = "loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)"
    settings = change if change.startswith("type") else f"type='FocalLoss', {change}"
    assert loss in text
    old.write_text(text.replace(loss, f"loss_cls=dict({settings})"))
    new = old.with_name("new.py")
    assert main([str(old), str(new)]) == 1
    printed = capsys.readouterr()
    assert message in (printed.out if "type" in change else error_line(printed.err))
    assert not new.exists()


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python tools/convert_config.py densenet_align.py align.py" in capsys.readouterr().out
