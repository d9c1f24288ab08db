"""What came of a training."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from mmengine.logging import MessageHub

from deeplesion.engine.progress import PROGRESS_KEY
from deeplesion.engine.summary import (
    FINISHED,
    RUNNING,
    STOPPED,
    SummaryHook,
    best_of,
    evaluation_command,
    format_summary,
    summarize,
    summarized,
    versions,
    write_summary,
)

PROGRESS = {
    "seconds": 7500.0,
    "step_seconds": 1000.0,
    "data_seconds": 250.0,
    "images": 4000.0,
    "gpu_peak_mib": 2048.0,
    "ram_peak_mib": 512.0,
    "sessions": 2,
}


class FakeRunner(SimpleNamespace):
    """What a summary asks of a Runner, after two validations."""

    def __init__(self, folder: Path, at: int = 100) -> None:
        hub = MessageHub(f"hub_{uuid4().hex}")
        hub.update_info_dict({PROGRESS_KEY: PROGRESS, "max_iters": 100})
        for mean, thin in ((0.5, 0.6), (0.25, math.nan)):
            hub.update_scalar("val/froc/mean", mean)
            hub.update_scalar("val/froc/thin_mean", thin)
        best = str(folder / "best_froc_mean_iter_50.pth")
        hub.update_info_dict({"best_ckpt": best, "best_score": 0.5, "last_ckpt": "old.pth"})
        self.lines: list[str] = []
        super().__init__(
            message_hub=hub,
            work_dir=str(folder),
            log_dir=str(folder / "20260101"),
            cfg=SimpleNamespace(filename="configs/a/some_config.py"),
            timestamp="20260101",
            iter=at,
            epoch=3,
            max_iters=100,
            seed=3,
            logger=SimpleNamespace(info=self.lines.append),
        )


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    """A Runner that has trained."""
    return FakeRunner(tmp_path / "my run")


def test_summary_holds_what_came_of_it(runner: Any) -> None:
    found = summarize(runner, FINISHED)
    folder = Path(runner.work_dir)
    assert found["best"]["checkpoint"] == str(folder / "best_froc_mean_iter_50.pth")
    assert found["best"]["froc"] == {"mean": 0.5, "thin": 0.6}
    assert found["last"] == {"checkpoint": "old.pth", "froc": {"mean": 0.25, "thin": None}}
    assert found["images_per_second"] == 4.0
    assert found["data_share"] == 0.25
    assert (found["iteration"], found["iterations"], found["seed"]) == (100, 100, 3)
    assert found["evaluate"] == (
        f"python tools/test.py '{folder}/some_config.py' "
        f"'{folder}/best_froc_mean_iter_50.pth' --split test --work-dir '{folder}/test'"
    )


def test_summary_reads_well(runner: Any) -> None:
    text = format_summary(summarize(runner, FINISHED))
    lines = dict(line.split("  ", 1) for line in text.splitlines() if not line.startswith(" "))
    assert lines["training"].strip() == "finished, 100 of 100 iterations"
    assert "2 h 5 min in 2 sessions; 25 % of the steps' time" in lines["time"]
    assert "4.00 images per second by 1 process" in lines["speed"]
    assert "GPU 2.00 GiB, RAM 0.50 GiB" in lines["memory"]
    assert "mean 0.5000, thin 0.6000" in text
    assert "mean 0.2500, thin undefined" in text
    assert f"tensorboard --logdir '{runner.work_dir}/tensorboard'" in text


def test_files_are_written_and_strict(runner: Any) -> None:
    text = write_summary(runner, FINISHED)
    folder = Path(runner.work_dir)
    assert (folder / "summary.txt").read_text() == text + "\n"

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    assert found["state"] == "finished"


def test_what_the_folder_notes_is_newer(runner: Any) -> None:
    Path(runner.work_dir).mkdir()
    (Path(runner.work_dir) / "last_checkpoint").write_text("new.pth\n")
    assert summarize(runner, FINISHED)["last"]["checkpoint"] == "new.pth"


def test_training_without_validation_or_checkpoint(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.message_hub = MessageHub(f"hub_{uuid4().hex}")
    found = summarize(runner, RUNNING)
    assert (found["best"], found["last"]) == (None, {"checkpoint": None, "froc": {}})
    text = format_summary(found)
    assert "nothing to evaluate yet" in text
    assert "best checkpoint  none" in text


def test_best_by_a_metric_of_another_kind(runner: Any) -> None:
    info = {"best_ckpt_loss": "a.pth", "best_score_loss": 0.1}
    found = best_of(info, runner.message_hub.log_scalars)
    assert found == {"checkpoint": "a.pth", "score": 0.1, "froc": {}}


def test_states_of_the_hook(tmp_path: Path) -> None:
    for at, state in ((100, FINISHED), (60, STOPPED)):
        runner, hook = FakeRunner(tmp_path, at), SummaryHook()
        hook.before_train(runner)
        assert state_of(tmp_path) == RUNNING
        hook.after_val_epoch(runner, {})
        assert state_of(tmp_path) == RUNNING
        hook.after_train(runner)
        assert state_of(tmp_path) == state
        assert f"{at} of 100 iterations" in runner.lines[-1]


def state_of(folder: Path) -> str:
    return json.loads((folder / "summary.json").read_text())["state"]


def test_validation_alone_is_not_summed_up(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.message_hub = MessageHub(f"hub_{uuid4().hex}")
    SummaryHook().after_val_epoch(runner, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of"),
        (SystemExit(75), "asked to end, exit code 75"),
    ],
)
def test_training_that_is_stopped_says_why(
    error: BaseException, reason: str, tmp_path: Path
) -> None:
    runner = FakeRunner(tmp_path, at=60)
    with pytest.raises(type(error)), summarized(runner):
        raise error
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["state"] == STOPPED
    assert found["reason"] == reason
    assert f"stopped at 60 of 100 iterations: {reason}" in runner.lines[-1]


def test_training_that_had_not_begun_leaves_nothing(tmp_path: Path) -> None:
    runner = FakeRunner(tmp_path)
    runner.message_hub = MessageHub(f"hub_{uuid4().hex}")
    with pytest.raises(ValueError, match="no data"), summarized(runner):
        raise ValueError("no data")
    assert not list(tmp_path.iterdir())


def test_nothing_to_evaluate_without_a_checkpoint() -> None:
    assert evaluation_command(Path("a.py"), None, Path("w")) == ""


def test_versions_name_the_device(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = versions()
    assert {"python", "torch", "mmdet", "device"} <= set(found)
    assert not caplog.records
