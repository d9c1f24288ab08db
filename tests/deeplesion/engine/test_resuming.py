"""A training that dies and is resumed ends as one that was never interrupted, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from deeplesion.engine.checkpoint import CheckpointError, read_checkpoint
from deeplesion.engine.checkpoint_files import read_header
from deeplesion.engine.resuming import check_same_run
from tests.deeplesion.engine.toy import ITERATIONS
from tests.deeplesion.engine.toy_runs import (
    Server,
    Training,
    assert_same,
    log_of,
    result_of,
)

Uninterrupted = Callable[[bool, int], Path]
# Seed, by epochs or iterations, processes, workers: ten moments, two of them in one training.
KILLS = [
    (0, True, 1, 0), (1, True, 1, 1), (2, True, 1, 2), (3, True, 2, 0), (4, True, 2, 1),
    (5, False, 1, 0), (6, False, 1, 2), (7, False, 2, 0), (8, False, 2, 1),
]  # fmt: skip
SGD = {"_delete_": True, "type": "SGD", "lr": 1e-4}
DEFAULT_SAMPLER = {"_delete_": True, "type": "DefaultSampler"}
SECONDS_OF_AN_ITERATION = 0.03


def kill_at_random(training: Training, moments: random.Random) -> None:
    """Kill all processes of a training."""
    training.until_iteration(moments.randrange(ITERATIONS + 2))
    time.sleep(moments.random() * SECONDS_OF_AN_ITERATION)
    training.send(signal.SIGKILL)
    # Another one may notice that the first is gone before it is killed itself.
    assert training.wait()[0] in (-signal.SIGKILL, 0)


@pytest.mark.parametrize(("seed", "by_epoch", "processes", "workers"), KILLS)
def test_killed_at_a_random_moment(
    seed: int,
    by_epoch: bool,
    processes: int,
    workers: int,
    server: Server,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
) -> None:
    folder, moments = tmp_path / "work", random.Random(seed)
    options = {"train_dataloader.num_workers": workers, "resume": "auto"}
    for _ in range(2 if seed == 2 else 1):
        kill_at_random(Training(server, folder, by_epoch, processes, **options), moments)
    training = Training(server, folder, by_epoch, processes, **options)
    assert training.wait() == [0] * processes, training.output.read_text()
    expected = uninterrupted(by_epoch, processes)
    assert log_of(folder) == log_of(expected)
    assert_same(result_of(folder, by_epoch), result_of(expected, by_epoch))


def test_a_torn_checkpoint_costs_no_more_than_the_one_before(
    server: Server, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    Training(server, folder, True, **{"signal_after": [11, "SIGKILL"]}).wait()
    newest = folder / "interim_iter_10.pth"
    os.truncate(newest, newest.stat().st_size // 2)
    (folder / ".epoch_2.abcdefgh.pth").write_text("half")
    training = Training(server, folder, True, resume="auto", log_level="INFO")
    assert training.wait() == [0]
    output = training.output.read_text()
    assert f"{newest} is torn" in output
    assert f"going on from {folder}/epoch_1.pth instead" in output
    assert not (folder / ".epoch_2.abcdefgh.pth").exists()
    assert log_of(folder) == log_of(uninterrupted(True, 1))
    assert_same(result_of(folder, True), result_of(uninterrupted(True, 1), True))


def test_the_seed_is_that_of_the_checkpoint(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    killed = {"signal_after": [9, "SIGKILL"], "randomness.seed": None}
    Training(server, folder, True, **killed).wait()
    whole = tmp_path / "whole"
    seed = read_header(folder / "epoch_1.pth").meta["seed"]
    assert Training(server, whole, True, **{"randomness.seed": seed}).wait() == [0]
    training = Training(server, folder, True, resume="auto")
    assert training.wait() == [0]
    assert f"goes on with its seed {seed}, not with 4" in training.output.read_text()
    assert_same(result_of(folder, True), result_of(whole, True))


def test_an_empty_folder_begins_anew_with_a_note(server: Server, tmp_path: Path) -> None:
    options = {"resume": "auto", "train_cfg.max_epochs": 1, "log_level": "INFO"}
    training = Training(server, tmp_path / "work", True, **options)
    assert training.wait() == [0]
    assert "to resume: the training begins" in training.output.read_text()


@pytest.fixture(scope="module")
def short(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of a training of one epoch."""
    folder = tmp_path_factory.mktemp("short") / "work"
    assert Training(server, folder, True, **{"train_cfg.max_epochs": 1}).wait() == [0]
    return folder


@pytest.mark.parametrize(
    ("processes", "changes", "message"),
    [
        (1, {"train_dataloader.batch_size": 7}, "a batch of 1 x 2 samples (processes x batch"),
        (2, {}, "1 x 2 samples (processes x batch_size) in the checkpoint, 2 x 2 now. Set train_"),
        (1, {"train_dataloader.sampler": DEFAULT_SAMPLER}, "order by CTSampler in the"),
    ],
)
def test_another_order_of_samples_is_refused(
    processes: int, changes: dict, message: str, short: Path, server: Server, tmp_path: Path
) -> None:
    resume = {"resume": str(short / "epoch_1.pth")}
    training = Training(server, tmp_path / "work", True, processes, **resume, **changes)
    assert training.wait() == [1] * processes
    lines = [x for x in training.output.read_text().splitlines() if x.startswith("error:")]
    assert message in lines[0]
    assert "load_from=" in lines[0]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_the_same_batch_in_other_processes_goes_on_to_the_same_weights(
    by_epoch: bool, server: Server, tmp_path: Path
) -> None:
    whole, split = tmp_path / "whole", tmp_path / "split"
    # Sums are taken in another order, which Adam blows up where gradients are near 0.
    plain = {"model.alone": True, "optim_wrapper.optimizer": SGD}
    assert Training(server, whole, by_epoch, **plain).wait() == [0]
    Training(server, split, by_epoch, **plain, **{"signal_after": [10, "SIGKILL"]}).wait()
    changes = {"resume": "auto", "train_dataloader.batch_size": 1}
    training = Training(server, split, by_epoch, 2, **plain, **changes)
    assert training.wait() == [0, 0], training.output.read_text()
    assert "1 processes with batches of 2 became 2 with 1" in training.output.read_text()
    last = "epoch_3.pth" if by_epoch else f"iter_{ITERATIONS}.pth"
    expected, found = (read_checkpoint(f / last)["state_dict"] for f in (whole, split))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("processes", "remedy"),
    [(2, "Set train_dataloader.batch_size=6 by"), (8, "12 samples fit on 1, 2, 3, 4, 6, 12 proc")],
)
def test_a_refusal_says_what_would_fit(processes: int, remedy: str) -> None:
    recorded = {"processes": 3, "batch_size": 4}
    with pytest.raises(CheckpointError, match=remedy):
        check_same_run("a.pth", recorded, {"processes": processes, "batch_size": 4})


def test_a_finished_training_stays_as_it_is(short: Path, server: Server) -> None:
    before = log_of(short)
    training = Training(server, short, True, resume="auto", **{"train_cfg.max_epochs": 1})
    assert training.wait() == [0], training.output.read_text()
    assert log_of(short) == before
