"""Which checkpoints are written and kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from mmengine.fileio import LocalBackend

from deeplesion.engine.checkpoint import read_checkpoint
from deeplesion.engine.checkpoint_hook import ResumableCheckpointHook
from tests.deeplesion.engine.toy_runs import (
    Server,
    Training,
    assert_same,
    log_of,
    result_of,
)

HOOK = "default_hooks.checkpoint"


def checkpoints(folder: Path) -> set[str]:
    """Names of all files of checkpoints, those of killed runs included."""
    return {path.name for path in folder.glob("*.pth")} | {p.name for p in folder.glob(".*")}


@pytest.mark.parametrize("name", ["every_minutes", "every_iters"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_intervals_must_be_positive(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0 or None"):
        ResumableCheckpointHook(**{name: value})


def test_keeps_what_it_was_told_to_and_two_to_rely_on(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    training = Training(server, folder, by_epoch=True)
    assert training.wait() == [0], training.output.read_text()
    kept = checkpoints(folder)
    (best,) = [name for name in kept if name.startswith("best_froc_mean_epoch_")]
    # epoch_3 stands for 21 iterations, interim_iter_20 is the one before it.
    assert kept - {best} == {"epoch_2.pth", "epoch_3.pth", "interim_iter_20.pth"}
    assert (folder / "last_checkpoint").read_text() == str(folder / "epoch_3.pth")
    scores = [record["val/froc/mean"] for record in log_of(folder) if "val/froc/mean" in record]
    assert best == f"best_froc_mean_epoch_{scores.index(max(scores)) + 1}.pth"
    assert "optimizer" not in read_checkpoint(folder / best)


def test_one_kept_checkpoint_is_there_at_any_time(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    options = {f"{HOOK}.max_keep_ckpts": 1, f"{HOOK}.every_iters": None}
    training = Training(server, folder, by_epoch=True, **options)
    training.until_iteration(9)
    while training.alive():
        assert any(name.startswith("epoch_") for name in checkpoints(folder))
        time.sleep(0.001)
    assert training.wait() == [0]


def test_minutes_between_checkpoints(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    options = {f"{HOOK}.every_minutes": 1e-6, f"{HOOK}.every_iters": None, f"{HOOK}.interval": 9}
    training = Training(server, folder, False, 2, **options)
    assert training.wait() == [0, 0], training.output.read_text()
    # One after each iteration: the newest two are those of the last two.
    assert {"interim_iter_20.pth", "iter_21.pth"} <= checkpoints(folder)


def test_a_disk_that_is_full_ends_in_one_line_and_loses_nothing(
    server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    whole = Training(server, folder, by_epoch=True, **{"train_cfg.max_epochs": 1})
    assert whole.wait() == [0]
    before = {path: path.read_bytes() for path in folder.glob("*.pth")}
    too_small = (folder / "epoch_1.pth").stat().st_size - 1
    training = Training(server, folder, by_epoch=True, resume="auto", largest_file=too_small)
    assert training.wait() == [1]
    (line,) = [x for x in training.output.read_text().splitlines() if x.startswith("error:")]
    assert "interim_iter_10.pth cannot be written: File too large" in line
    assert "Those before it are whole" in line
    assert {path: path.read_bytes() for path in folder.glob("*.pth")} == before
    assert not [name for name in checkpoints(folder) if name.startswith(".")]


def test_accumulated_gradients_survive(server: Server, tmp_path: Path) -> None:
    # 7 iterations of an epoch, 4 accumulated: the checkpoints of epochs are amid.
    options = {"optim_wrapper.accumulative_counts": 4}
    folders = [tmp_path / name for name in ("whole", "resumed")]
    training = Training(server, folders[0], True, 2, **options)
    assert training.wait() == [0, 0], training.output.read_text()
    short = Training(server, folders[1], True, 2, **options, **{"signal_after": [7, "SIGKILL"]})
    short.wait()
    rest = Training(server, folders[1], True, 2, resume="auto", **options)
    assert rest.wait() == [0, 0], rest.output.read_text()
    assert log_of(folders[1]) == log_of(folders[0])
    assert_same(result_of(folders[1], True), result_of(folders[0], True))


def test_the_best_of_another_folder_is_left_there(server: Server, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    training = Training(server, first, by_epoch=True, **{"signal_after": [10, "SIGKILL"]})
    training.wait()
    (best,) = first.glob("best_*.pth")
    rest = Training(server, second, by_epoch=True, resume=str(first / "epoch_1.pth"))
    assert rest.wait() == [0], rest.output.read_text()
    assert best.exists()
    assert log_of(second)[0]["iter"] in (7, 8)


@pytest.mark.parametrize("metrics", [None, "froc/mean", ["froc/mean", "froc/number"]])
def test_the_best_is_dropped_only_for_a_better_one(metrics: Any, tmp_path: Path) -> None:
    hook = ResumableCheckpointHook(save_best=metrics, rule="greater" if metrics else None)
    hook.file_backend = LocalBackend()
    names = [metrics] if metrics is None or isinstance(metrics, str) else metrics
    files = {name: tmp_path / f"best_{number}.pth" for number, name in enumerate(names)}
    for file in files.values():
        file.touch()
    hook._drop_outdated_best()
    several = isinstance(metrics, list)
    hook._outdated_best = {k if several else "": str(f) for k, f in files.items() if k}
    for name in hook._outdated_best:
        hook._set_best(name, str(tmp_path / "better.pth"))
    hook._drop_outdated_best()
    assert [file.exists() for file in files.values()] == [metrics is None] * len(files)
