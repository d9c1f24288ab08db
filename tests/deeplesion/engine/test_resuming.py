"""A training that dies and is resumed ends as one that was never interrupted, bit for bit."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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
SECONDS_OF_AN_ITERATION = 0.03


def kill_at_random(training: Training, moments: random.Random) -> None:
    """Kill all processes of a training, or one and then the others, which wait for it."""
    training.until_iteration(moments.randrange(ITERATIONS + 2))
    time.sleep(moments.random() * SECONDS_OF_AN_ITERATION)
    training.send(signal.SIGKILL)
    assert set(training.wait()) <= {-signal.SIGKILL, 0}


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
