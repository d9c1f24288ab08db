"""tools/list_models.py: what it lists, what it measures, and what it says to wrong arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deeplesion.engine.catalog import NATIVE_OPERATORS
from tests.tools.running import REPO_ROOT, SMALL, error_line, run_tool
from tools import list_models
from tools.list_models import main, table

TOOL = "tools/list_models.py"
DENSENET = "configs/alignshift/mask-rcnn_alignshift-densenet121_{0}x2mm_20e_deeplesion.py"
R50 = "configs/{0}/retinanet_{0}-r50-fpn_7x2mm_20e_deeplesion.py"


def config(name: str, *fields: object) -> str:
    return str(REPO_ROOT / name.format(*fields))


@pytest.fixture(scope="module")
def few_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two configs, and one that is only a part."""
    folder = tmp_path_factory.mktemp("configs")
    for name in ("a/one.py", "b/two.py", "_base_/part.py"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(f"_base_ = {SMALL.format('tsm')!r}\n")
    return folder


def test_lists_what_there_is(few_configs: Path, tmp_path: Path) -> None:
    result = run_tool(
        TOOL, "--configs", few_configs, "--json", "all.json", cwd=tmp_path, fresh=True
    )
    assert result.returncode == 0, result.stderr
    for title in ("Operators", "Backbones", "2D backbones of mmdetection", "Detectors", "Configs"):
        assert re.search(rf"^{title}", result.stdout, re.MULTILINE), title
    assert re.search(r"^  A3DConv +dimension=3, enable_shift=True +Learned", result.stdout, re.M)
    assert re.search(r"^  a/one.py +MaskRCNN +TSMConv +DenseNetCustom", result.stdout, re.M)
    assert "part.py" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 200
    content = json.loads((tmp_path / "all.json").read_text())
    assert [Path(entry["path"]).name for entry in content["configs"]] == ["one.py", "two.py"]
    assert {entry["name"] for entry in content["backbones"]} == {*NATIVE_OPERATORS, "SliceBackbone"}
    assert {"name": "TSMConv", "settings": "n_fold=8, tsm=True, inplace=True"}.items() <= (
        content["operators"][2].items()
    )


def test_lists_in_markdown(few_configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--configs", str(few_configs), "--markdown"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("### Operators")
    assert re.search(r"^\| a/one.py \| MaskRCNN \| TSMConv +\| DenseNet", output, re.MULTILINE)


def test_lists_timm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("timm")
    file = tmp_path / "timm.json"
    assert main(["--timm", "resnet18", "--json", str(file)]) == 0
    assert capsys.readouterr().out == "resnet18\n"
    assert json.loads(file.read_text()) == {"timm_networks": ["resnet18"]}
    assert main(["--timm", "no-such-net*"]) == 1
    assert error_line(capsys.readouterr().err) == "error: timm has no network 'no-such-net*'"


def test_timm_may_be_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(list_models.catalog, "find_spec", lambda _: None)
    assert main(["--timm", "*"]) == 1
    assert "timm is not installed: pip install" in error_line(capsys.readouterr().err)


def test_measures_configs(tmp_path: Path) -> None:
    configs = [config(DENSENET, 7), config(DENSENET, 3), config(R50, "alignshift")]
    result = run_tool(TOOL, *configs, "--json", "cost.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "config/s" in result.stderr or "s/config" in result.stderr
    assert "UserWarning" not in result.stderr
    seven, three, r50 = json.loads((tmp_path / "cost.json").read_text())
    assert (seven["detector"], seven["operator"]) == ("MaskRCNN", "AlignShiftConv")
    assert seven["input"] == {"slices": 7, "height": 512, "width": 512}
    assert seven["flops"]["backbone"] * 3 == three["flops"]["backbone"] * 7
    assert seven["flops"]["heads"] == three["flops"]["heads"]
    assert seven["rois"] == {"boxes": 300, "masks": 50}
    assert r50["backbone"] == "ResNet-50"
    assert r50["rois"] is None
    for record in (seven, three, r50):
        for kind in ("parameters", "flops"):
            parts = record[kind]
            assert parts["total"] == parts["backbone"] + parts["neck"] + parts["heads"]
    millions = f"{seven['parameters']['total'] / 1e6:.2f}"
    billions = f"{seven['flops']['total'] / 1e9:.1f}"
    (line,) = [line for line in result.stdout.splitlines() if "_7x2mm" in line and "Mask" in line]
    assert line.split()[-1] == billions
    assert millions in line.split()
    assert "A multiply-add counts as 2 FLOPs" in result.stdout
    assert "RoIAlign" in result.stdout


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Cells of the one line of a table in Markdown."""
    assert main([*arguments, "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines[:4] if line] == ["|", "|", "|"]
    return [cell.strip() for cell in lines[2].strip("|").split("|")]


def test_slices_size_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    small = SMALL.format("a3d")
    assert measured(capsys, small, "--slices", "3", "--size", "64")[4] == "3 x 64 x 64"
    assert measured(capsys, small, "--size", "40", "64")[4] == "7 x 64 x 64"
    limit = ["--cfg-options", "model.test_cfg.rpn.max_per_img=7"]
    assert measured(capsys, small, "--size", "64", *limit)[5] == "7 / 50"


def test_what_is_not_known_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cfg-options", "model.test_cfg.rpn.max_per_img=-1"]
    assert main([SMALL.format("tsm"), "--size", "64", *options]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[1].split()[-2:] == ["?", "?"]
    assert "FLOPs of the heads are not known, test_cfg sets no limit" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.py"], "error: config no/such.py does not exist: the configs are in configs/"),
        ([SMALL.format("tsm")], f"error: {SMALL.format('tsm')}: no pipeline of the config"),
        ([SMALL.format("tsm"), "--size", "64", "--slices", "4"], "must be odd and >= 1, got 4"),
        (
            [SMALL.format("tsm"), "--size", "64", "--cfg-options", "model.backbone.n_fold=1"],
            "the model cannot be built: ",
        ),
        (["--configs", "no/such"], "error: no configs in the folders of no/such"),
    ],
)
def test_mistakes_are_told_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert message in error_line(capsys.readouterr().err)


def test_configs_that_are_none_are_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"a.py": "a = 1 / 0", "b.py": "model = [1, 2]", "c.txt": "x"}.items():
        (tmp_path / name).write_text(text)
        assert main([str(tmp_path / name)]) == 1
        assert f"config {tmp_path / name}" in error_line(capsys.readouterr().err)


def test_json_cannot_be_written_to_a_folder(
    few_configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--configs", str(few_configs), "--json", str(tmp_path)]) == 1
    assert f"{tmp_path}'" in error_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.py", "--timm", "x"], "--timm lists names"),
        (["--slices", "3"], "need a config"),
        (["a.py", "--size", "1", "2", "3"], "one number or two"),
    ],
)
def test_arguments_that_do_not_go_together(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    assert "examples:" in output
    for name in re.findall(r"configs/\S+\.py", output):
        assert [*REPO_ROOT.glob(name)], name


def test_numbers_of_a_table_go_to_the_right() -> None:
    rows = [("a", "1.5"), ("bcd", "10.25")]
    assert [*table(("x", "n"), rows, markdown=False)] == [
        "  x        n",
        "  a      1.5",
        "  bcd  10.25",
    ]
    assert [*table(("x", "n"), rows, markdown=True)] == [
        "| x   |     n |",
        "| --- | ----: |",
        "| a   |   1.5 |",
        "| bcd | 10.25 |",
    ]
