"""tools/convert_checkpoint.py as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.deeplesion.legacy.published import checkpoint, state_dict
from tests.deeplesion.legacy.test_files import Evil
from tests.tools.running import error_line, run_tool
from tools.convert_checkpoint import main

TOOL = "tools/convert_checkpoint.py"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A published file of an AlignShift network."""
    path = tmp_path / "published.pth"
    torch.save(checkpoint("align", optimizer={"state": {}}), path)
    return path


def test_to_froc_and_to_a_training_from_there(
    published: Path, synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_tool(TOOL, "published.pth", "made/ours.pth", cwd=tmp_path, fresh=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("network: AlignShift, 3 slices, ")
    assert "dropped: optimizer" in result.stdout
    assert result.stdout.endswith("made/ours.pth and made/ours.py written\n")
    # The folder may be moved.
    shutil.move(tmp_path / "made", tmp_path / "moved")
    result = run_tool(
        "tools/test.py", "moved/ours.py", "moved/ours.pth", "--data-root", synthetic_root,
        "--work-dir", "froc", "--cfg-options", "test_dataloader.dataset.indices=2", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert "mean" in json.loads((tmp_path / "froc/froc.json").read_text())["metrics"]
    assert len(json.loads((tmp_path / "froc/predictions.json").read_text())["images"]) == 2
    result = run_tool(
        "tools/train.py", "moved/ours.py", "--data-root", synthetic_root, "--work-dir", "tuned",
        "--cfg-options", "load_from=moved/ours.pth", "train_cfg.max_epochs=1",
        "train_dataloader.dataset.indices=2", "val_dataloader.dataset.indices=1",
        "param_scheduler.1.end=1", "default_hooks.logger.interval=1", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "tuned/epoch_1.pth").is_file()
    line = refusal(capsys, tmp_path / "tuned/epoch_1.pth", tmp_path / "b.pth", "--to-reference")
    assert "cannot be converted back: the way back would not be exact" in line


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line with which the tool refuses."""
    assert main([*map(str, arguments)]) == 1
    return error_line(capsys.readouterr().err)


def test_tools_refuse_another_operator(
    published: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    """AlignShift's weights fit TSM's config, so the operator is recorded."""
    assert main([str(published), str(tmp_path / "a.pth")]) == 0
    content = checkpoint("tsm")
    torch.save(content, tmp_path / "tsm.pth")
    assert main([str(tmp_path / "tsm.pth"), str(tmp_path / "b.pth")]) == 0
    result = run_tool("tools/test.py", "b.py", "a.pth", "--data-root", synthetic_root, cwd=tmp_path)
    line = error_line(result.stderr)
    assert "it was trained with AlignShiftConv, the config has TSMConv" in line


def test_round_trip(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    assert main([str(published), str(ours)]) == 0
    assert main([str(ours), str(back), "--to-reference"]) == 0
    assert "tensors as they were published" in capsys.readouterr().out
    assert not back.with_suffix(".py").exists()
    before, after = torch.load(published), torch.load(back)
    assert after["meta"] == before["meta"]
    assert list(after["state_dict"]) == list(before["state_dict"])
    for name, tensor in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], tensor), name


def test_bare_weights_come_back_bare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, ours, back = (tmp_path / f"{name}.pth" for name in ("a", "ours", "back"))
    state = state_dict("a3d")
    torch.save(state, source)
    assert main([str(source), str(ours)]) == 0
    assert main([str(ours), str(back), "--to-reference"]) == 0
    assert f"{len(state)} tensors as they were published" in capsys.readouterr().out
    assert list(torch.load(back)) == list(state)


def test_operator_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(state_dict("tsm"), source)
    line = refusal(capsys, source, target)
    assert line == (
        f"error: checkpoint {source} cannot be converted: AlignShift and TSM have the same "
        "weights, and its meta has no config that tells which it is: give --operator align or "
        "--operator tsm"
    )
    assert main([str(source), str(target), "--operator", "tsm"]) == 0
    assert "DenseNetCustomTrunc3dTSM" in target.with_suffix(".py").read_text()


def test_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "resnet.pth"
    torch.save(
        {"state_dict": {"layer1.0.weight": torch.zeros(1), "fc.bias": torch.ones(1)}}, source
    )
    line = refusal(capsys, source, tmp_path / "b.pth")
    assert "2 of its 2 weights are not known (layer1.0.weight, fc.bias)" in line
    assert "does not exist" in refusal(capsys, tmp_path / "none.pth", tmp_path / "b.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["resnet.pth"]


def test_code_is_run_only_when_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, marker = tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "marker"
    content = checkpoint("a3d")
    content["meta"]["hook"] = Evil(marker)
    torch.save(content, source)
    assert "--unsafe reads it all the same" in refusal(capsys, source, target)
    assert not marker.exists()
    assert main([str(source), str(target), "--unsafe"]) == 0
    assert f"warning: --unsafe runs whatever code {source} holds" in capsys.readouterr().err
    assert marker.is_dir()


def test_nothing_is_replaced_unless_asked_to(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "ours.py"
    config.write_text("mine = 1\n")
    line = refusal(capsys, published, tmp_path / "ours.pth")
    assert line == f"error: {config} exists: give --overwrite to replace it"
    assert main([str(published), str(tmp_path / "ours.pth"), "--overwrite"]) == 0
    assert "mine" not in config.read_text()
    same = refusal(capsys, published, published, "--overwrite")
    assert "is what is to be converted: give another name" in same
    assert "must not end in .py" in refusal(capsys, published, tmp_path / "ours.py")


def test_targets_that_cannot_be_written_are_refused_before_any_work(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    (folder / "b.py").mkdir(parents=True)
    for target, message in {
        folder: f"{folder} is a folder: name a file",
        Path(): ". is a folder: name a file",
        folder / "b.pth": f"{folder / 'b.py'} is a folder: name a file",
        published / "b.pth": f"{published / 'b.pth'} cannot be written: {published} is a file",
    }.items():
        assert refusal(capsys, published, target, "--overwrite") == f"error: {message}"
    assert "must be UTF-8" in refusal(capsys, published, tmp_path / "\udcff.pth")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.py", "folder", "published.pth"]


def test_folders_that_cannot_be_written_to_are_told_in_a_line(
    published: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root may write anywhere, so that it is told not to."""
    target = tmp_path / "b.pth"

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr("deeplesion.io.tempfile.mkstemp", refuse)
    line = refusal(capsys, published, target)
    assert line == f"error: [Errno 13] Permission denied: '{target}'"


def test_other_files_are_refused_without_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (b"", b"a text", b"<html></html>"):
        (tmp_path / "a.pth").write_bytes(content)
        line = refusal(capsys, tmp_path / "a.pth", tmp_path / "b.pth")
        assert line.startswith(f"error: checkpoint {tmp_path / 'a.pth'} is torn or no checkpoint")
        assert "unsafe" not in line


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "published/epoch_20.pth weights/align.pth" in capsys.readouterr().out
