"""What tools/train.py leaves to look at, and what its dry run tells."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from mmengine.fileio import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deeplesion.engine.config import load_config
from tests.tools.running import (
    ITERS,
    NO_WORKERS,
    SHORT,
    SMALL,
    call_tool,
    error_line,
    run_tool,
)
from tools.train import main

CONFIG = SMALL.format("alignshift")


@pytest.fixture(scope="module")
def events(trained: Path) -> EventAccumulator:
    """What TensorBoard reads of a training."""
    accumulator = EventAccumulator(str(trained / "tensorboard"))
    accumulator.Reload()
    return accumulator


def test_curves_have_names_and_iterations(events: EventAccumulator) -> None:
    names = set(events.Tags()["scalars"])
    losses = {"loss", "loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask"}
    speed = {"time", "data_time", "data_share", "images_per_second", "eta_hours", "ram_mib"}
    assert {f"train/{name}" for name in losses | speed | {"lr", "grad_norm"}} <= names
    assert {"val/froc/mean", "val/froc/sens@0.5", "val/froc/sens@16"} <= names
    strata = {"thin_mean", "thick_mean", "other_mean"}
    assert any(f"val/froc/{name}" in names for name in strata)
    # No curve is of training and validation at once.
    assert {name.partition("/")[0] for name in names} <= {"train", "val", "iter", "epoch", "memory"}
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, ITERS + 1))
    assert [event.step for event in events.Scalars("val/froc/mean")] == [ITERS]


def test_overlays_are_in_tensorboard_and_on_a_sheet(
    events: EventAccumulator, trained: Path
) -> None:
    tags = events.Tags()["images"]
    assert tags
    assert all(tag.startswith("overlays/") for tag in tags)
    assert [event.step for event in events.Images(tags[0])] == [ITERS]
    assert [path.name for path in (trained / "overlays").iterdir()] == [f"iter_{ITERS:08d}.png"]


def test_summary_tells_how_to_go_on(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["state"] == "finished"
    assert summary["iteration"] == summary["iterations"] == ITERS
    assert (summary["seed"], summary["sessions"], summary["images"]) == (3, 1, 2 * ITERS)
    assert summary["last"]["checkpoint"] == str(trained / f"iter_{ITERS}.pth")
    assert Path(summary["best"]["checkpoint"]).is_file()
    assert summary["best"]["froc"]["mean"] == summary["best"]["score"]
    assert summary["seconds"] > 0
    python, tool, config, checkpoint, *rest = shlex.split(summary["evaluate"])
    assert (python, tool, rest[:2]) == ("python", "tools/test.py", ["--split", "test"])
    assert load_config(config, None, None).model.type == "MaskRCNN"
    assert checkpoint == summary["best"]["checkpoint"]
    text = (trained / "summary.txt").read_text()
    assert f"finished, {ITERS} of {ITERS} iterations" in text
    (log,) = trained.glob("*/*.log")
    assert text.strip() in log.read_text()


def test_counts_go_on_in_a_resumed_training(
    trained: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    before = json.loads((trained / "summary.json").read_text())
    resume = ["--resume", trained / f"iter_{ITERS}.pth"]
    arguments = [CONFIG, "--work-dir", tmp_path, "--data-root", synthetic_root, *resume]
    # There is nothing left to train, and yet the summary tells of all that was.
    assert call_tool(main, *arguments, options=[*SHORT, *NO_WORKERS]) == 0
    after = load(tmp_path / "summary.json")
    assert (after["state"], after["sessions"]) == ("finished", 2)
    assert after["images"] == before["images"]
    assert after["seconds"] > 0
    assert after["best"] == before["best"]


def test_unknown_tracker_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = str(Path(__file__).parent)
    options = [*NO_WORKERS, "trackers=wandbb"]
    assert call_tool(main, CONFIG, "--data-root", root, options=options) == 1
    assert "got 'wandbb'" in error_line(capsys.readouterr().err)


def test_dry_run_of_two_processes_fails_where_something_is_wrong(
    synthetic_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "iter_9.pth").touch()
    result = run_tool(
        "tools/dist_train.sh", CONFIG, 2, "--work-dir", tmp_path / "work", "--data-root",
        synthetic_root, "--dry-run", "--cfg-options", *SHORT, *NO_WORKERS,
        "default_hooks.checkpoint.save_best=mAP", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1
    for words in (
        "batch of 2 x 2 processes x 1 accumulated",
        "whole run   about ",
        f"{ITERS} steps",
        "ok       a checkpoint was saved after 2 steps and gone on from",
        "warning  learning rate 0.001 is for 8 images a step, there are 4",
        "error    the validation gives no mAP",
    ):
        assert words in result.stdout
    # Once, by the main process.
    assert result.stdout.count("dry run of") == 1
    assert "error: the dry run found 1 error" in result.stderr
    # Nothing is left, and what was there is.
    assert [path.name for path in tmp_path.rglob("*")] == ["work", "iter_9.pth"]
