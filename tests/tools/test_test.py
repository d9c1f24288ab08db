"""tools/test.py and its launchers as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from tests.processes import run_processes
from tests.tools.running import (
    ITERS,
    NO_WORKERS,
    SMALL,
    call_tool,
    called_in_vain,
    error_line,
    run_tool,
)
from tools.test import main

CONFIG = SMALL.format("alignshift")
CHECKPOINT = f"{{}}/iter_{ITERS}.pth"


@pytest.fixture(scope="session")
def evaluated(
    trained: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work folder after an evaluation with overlays."""
    folder = tmp_path_factory.mktemp("evaluated")
    result = run_tool(
        "tools/test.py", CONFIG, CHECKPOINT.format(trained), "--work-dir", folder,
        "--data-root", synthetic_root, "--show-dir", folder / "show",
        "--show-score-thr", 0.0, "--show-max", 2, cwd=folder, fresh=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


def test_writes_figures_plot_and_predictions(evaluated: Path) -> None:
    froc = json.loads((evaluated / "froc.json").read_text())
    predictions = json.loads((evaluated / "predictions.json").read_text())
    names = [image["file_name"] for image in predictions["images"]]
    assert len(set(names)) == len(names) > 0
    assert all(len(image["masks"]) == len(image["bboxes"]) for image in predictions["images"])
    for recorded in (froc["settings"], predictions["meta"]):
        assert recorded["config"] == Path(CONFIG).name
        assert recorded["checkpoint"].startswith("iter_")
        assert recorded["split"] == "test"
    assert 0 <= froc["metrics"]["mean"] <= 1
    assert cv2.imread(str(evaluated / "froc.png")) is not None


def test_writes_at_most_as_many_overlays_as_asked(evaluated: Path) -> None:
    overlays = sorted((evaluated / "show").glob("*.png"))
    assert len(overlays) == 2
    assert cv2.imread(str(overlays[0])).std() > 10


def test_report_is_of_what_was_evaluated(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    options = [*NO_WORKERS, "test_dataloader.dataset.indices=2", "test_evaluator.one_to_one=True"]
    arguments = [CONFIG, CHECKPOINT.format(trained), "--work-dir", tmp_path, "--report"]
    root = ["--data-root", synthetic_root]
    assert call_tool(main, *arguments, *root, options=options) == 0
    summary = json.loads((tmp_path / "report/summary.json").read_text())
    figures = json.loads((tmp_path / "froc.json").read_text())
    assert summary["counts"]["images"] == figures["counts"]["images"] == 2
    assert summary["settings"]["one_to_one"]
    detector = summary["detectors"][Path(CONFIG).stem]["overall"]
    assert detector["mean"]["value"] == pytest.approx(figures["metrics"]["mean"])
    assert (tmp_path / "report/report.html").is_file()


def test_two_processes_give_the_figures_of_one(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "tools/dist_test.sh", CONFIG, CHECKPOINT.format(trained), 2, "--work-dir", tmp_path,
        "--data-root", synthetic_root, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("results are in") == 1
    together, alone = (
        json.loads((folder / "froc.json").read_text()) for folder in (tmp_path, evaluated)
    )
    assert together["metrics"] == alone["metrics"]
    # What mmengine collects results in, and leaves behind.
    assert not (tmp_path / ".dist_test").exists()


def evaluate(folder: Path, checkpoint: str, data: Path) -> int:
    """One of several processes that evaluate together."""
    arguments = [CONFIG, checkpoint, "--work-dir", folder, "--data-root", data]
    options = [*NO_WORKERS, "test_dataloader.batch_size=1"]
    return call_tool(main, *arguments, "--launcher", "pytorch", options=options)


def test_any_number_of_processes_finds_the_same(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    results = []
    for processes in (1, 3):
        folder = tmp_path / str(processes)
        arguments = (folder, CHECKPOINT.format(trained), synthetic_root)
        assert run_processes(evaluate, processes, *arguments) == [0] * processes
        results.append([(folder / f"{name}.json").read_text() for name in ("froc", "predictions")])
    assert results[0] == results[1]
    # Else no process would have gotten one more than another.
    assert json.loads(results[0][0])["counts"]["images"] % 3


def test_mixed_precision_and_another_split(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    result = run_tool(
        "deeplesion/eval.sh", CONFIG, CHECKPOINT.format(trained), "--work-dir", tmp_path,
        "--data-root", synthetic_root, "--split", "val", "--amp", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "predictions.json").read_text())["images"]


def test_default_folder_names_config_and_split(
    trained: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [CONFIG, CHECKPOINT.format(trained), "--data-root", synthetic_root]
    assert call_tool(main, *arguments, "--split", "val", options=NO_WORKERS) == 0
    assert (tmp_path / "work_dirs" / Path(CONFIG).stem / "val" / "froc.json").exists()


@pytest.fixture(scope="module")
def ensemble(
    trained: Path, evaluated: Path, synthetic_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A work folder after two checkpoints, with flipped views, and finished predictions."""
    folder = tmp_path_factory.mktemp("ensemble")
    (best,) = trained.glob("best_froc_mean_*.pth")
    members = [CHECKPOINT.format(trained), f"{CONFIG}:{best}", evaluated / "predictions.json"]
    arguments = [CONFIG, *members, "--data-root", synthetic_root, "--work-dir", folder]
    options = ["--tta", "horizontal", "slices", "--report"]
    assert call_tool(main, *arguments, *options, options=NO_WORKERS) == 0
    return folder


def test_ensemble_is_scored_as_one(ensemble: Path, evaluated: Path) -> None:
    fused = json.loads((ensemble / "predictions.json").read_text())
    alone = json.loads((evaluated / "predictions.json").read_text())
    names = [image["file_name"] for image in fused["images"]]
    assert names == [image["file_name"] for image in alone["images"]]
    assert all(len(image["masks"]) == len(image["bboxes"]) for image in fused["images"])
    assert fused["meta"]["fusion"] == {
        "method": "weighted box fusion", "iou_threshold": 0.55, "weights": [1.0, 1.0, 1.0]
    }  # fmt: skip
    checkpoints = [member["checkpoint"] for member in fused["meta"]["members"]]
    assert [name.startswith(("iter_", "best_")) for name in checkpoints] == [True] * 3
    summary = json.loads((ensemble / "report/summary.json").read_text())
    froc = json.loads((ensemble / "froc.json").read_text())
    (detector,) = summary["detectors"].values()
    assert detector["overall"]["mean"]["value"] == pytest.approx(froc["metrics"]["mean"])


def test_members_keep_results_of_their_own(ensemble: Path) -> None:
    folders = sorted(path.name for path in ensemble.glob("member*"))
    assert folders[0] == f"member1_iter_{ITERS}"
    assert folders[1].startswith("member2_best_froc_mean")
    settings = json.loads((ensemble / folders[0] / "froc.json").read_text())["settings"]
    assert settings["views"] == ["horizontal", "slices"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show-dir", "show"], "--show-dir shows one checkpoint"),
        (["--fusion-weights", "1"], "one number for each of 2 checkpoints, got 1"),
        (["--fusion-weights", "1", "0"], "--fusion-weights must be > 0, got 0"),
        (["--fusion-iou", "1"], r"--fusion-iou must be in [0, 1), got 1"),
        (["--tta", "sideways"], "some of horizontal, vertical, diagonal, slices"),
    ],
)
def test_options_that_do_not_go_together_are_named(
    options: list[str],
    message: str,
    trained: Path,
    synthetic_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    members = [CHECKPOINT.format(trained), str(next(trained.glob("best_*.pth")))]
    arguments = [CONFIG, *members, "--data-root", synthetic_root, *options]
    assert message in called_in_vain(main, *arguments, capsys=capsys)


def test_missing_checkpoint_is_named(synthetic_root: Path, tmp_path: Path) -> None:
    arguments = ["tools/test.py", CONFIG, "none.pth", "--data-root", synthetic_root]
    result = run_tool(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "checkpoint none.pth does not exist" in error_line(result.stderr)


def refusal(config: str, checkpoint: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """How tools/test.py refuses a checkpoint."""
    arguments = [config, checkpoint, "--data-root", data, "--work-dir", checkpoint.parent]
    return called_in_vain(main, *arguments, capsys=capsys)


def test_torn_checkpoint_is_named(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(b"PK\x03\x04 no more")
    assert "torn.pth is torn" in refusal(CONFIG, torn, synthetic_root, capsys)


def test_checkpoint_of_another_network_is_refused(
    synthetic_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}}, other)
    line = refusal(CONFIG, other, synthetic_root, capsys)
    assert "other.pth does not fit the config: none of its 1 weights" in line


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        ("tsm", "it was trained with AlignShiftConv, the config has TSMConv"),
        ("a3d", "adaptive_align_weights"),
    ],
)
def test_checkpoint_of_another_operator_is_refused(
    operator: str,
    reason: str,
    trained: Path,
    synthetic_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoint = tmp_path / "copy.pth"
    checkpoint.symlink_to(CHECKPOINT.format(trained))
    assert reason in refusal(SMALL.format(operator), checkpoint, synthetic_root, capsys)
