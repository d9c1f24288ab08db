"""Signals that ask a training to end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from deeplesion.engine import preemption
from deeplesion.engine.preemption import (
    INTERRUPT_EXIT_CODE,
    REQUEUE_EXIT_CODE,
    Preempted,
    ShieldedWorker,
    StopSignals,
)
from tests.deeplesion.engine.toy import ITERATIONS
from tests.deeplesion.engine.toy_runs import Server, Training, assert_same, log_of, result_of

Uninterrupted = Callable[[bool, int], Path]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, 130)]
)
def test_a_signal_is_noted_and_handlers_are_put_back(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert signals.agreed() == (0, False)
        assert signals.agreed(save=True) == (0, True)
        os.kill(os.getpid(), number)
        assert signals.agreed() == (code, False)
        os.kill(os.getpid(), number)  # at once again, as launcher and cluster do
        assert signals.agreed() == (code, False)
    assert signal.getsignal(number) is before


def test_the_first_signal_tells_the_exit_code() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.exit_code == REQUEUE_EXIT_CODE


def test_nothing_is_noted_when_not_active() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(active=False):
        assert signal.getsignal(signal.SIGTERM) is before


def test_is_an_exit_with_a_code() -> None:
    with pytest.raises(SystemExit) as raised:
        raise Preempted(INTERRUPT_EXIT_CODE)
    assert raised.value.code == 130


class Slow:
    """Samples that are the ids of the processes that load them."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return os.getpid()


def test_workers_leave_signals_to_the_main_process() -> None:
    begun: list[int] = []
    loader = DataLoader(Slow(), num_workers=1, worker_init_fn=ShieldedWorker(begun.append))
    batches = iter(loader)
    worker = int(next(batches))
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        # From another process than the parent, which is the one that may.
        subprocess.run(["kill", f"-{int(number)}", str(worker)], check=True)
    assert {int(batch) for batch in batches} == {worker}


def test_a_worker_obeys_its_parent() -> None:
    loader = DataLoader(Slow(), num_workers=1, worker_init_fn=ShieldedWorker(None))
    batches: Any = iter(loader)
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("by_epoch", "processes", "number", "code"),
    [
        (True, 1, signal.SIGTERM, REQUEUE_EXIT_CODE),
        (False, 2, signal.SIGUSR1, REQUEUE_EXIT_CODE),
        (True, 1, signal.SIGINT, INTERRUPT_EXIT_CODE),
    ],
)
def test_a_training_ends_with_a_checkpoint_and_goes_on(
    by_epoch: bool,
    processes: int,
    number: signal.Signals,
    code: int,
    server: Server,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "work"
    # No checkpoint before that of the signal, so that one must have been written for it.
    options = {"default_hooks.checkpoint.every_iters": None, "train_dataloader.num_workers": 1}
    slow = {**options, "model.seconds": 0.05, "log_level": "INFO"}
    training = Training(server, folder, by_epoch, processes, **slow)
    training.until_iteration(3)
    training.send(number, rank=processes - 1)  # to one process only
    assert training.wait() == [code] * processes, training.output.read_text()
    (checkpoint,) = folder.glob("*.pth")
    done = len(log_of(folder))
    assert checkpoint.name == f"interim_iter_{done}.pth"
    assert 3 <= done < ITERATIONS
    (line,) = [x for x in training.output.read_text().splitlines() if "Ended by a signal" in x]
    assert f"after {done} iterations" in line
    training = Training(server, folder, by_epoch, processes, resume="auto", **options)
    assert training.wait() == [0] * processes, training.output.read_text()
    expected = uninterrupted(by_epoch, processes)
    assert log_of(folder) == log_of(expected)
    assert_same(result_of(folder, by_epoch), result_of(expected, by_epoch))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "REPEAT_SECONDS", 0.0)
    if (child := os.fork()) == 0:
        with StopSignals():
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -number


def test_a_signal_before_the_first_iteration_leaves_nothing(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    training = Training(
        server, folder, by_epoch=True, **{"log_level": "INFO", "signal_after": [0, "SIGTERM"]}
    )
    assert training.wait() == [REQUEUE_EXIT_CODE]
    assert "nothing was done yet" in training.output.read_text()
    assert not list(folder.glob("*.pth"))


def test_a_signal_in_a_validation_ends_it_and_it_is_done_again(
    server: Server, uninterrupted: Uninterrupted, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    # Written when the validation begins, for no other checkpoint is due.
    options = {"default_hooks.checkpoint.every_iters": None, "default_hooks.checkpoint.interval": 9}
    slow = {"model.seconds_to_predict": 0.1}
    training = Training(server, folder, False, 1, **options, **slow)
    deadline = time.monotonic() + 100
    while not (folder / "interim_iter_7.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    training.send(signal.SIGTERM)
    assert training.wait() == [REQUEUE_EXIT_CODE], training.output.read_text()
    assert [record["iter"] for record in log_of(folder)] == [1, 2, 3, 4, 5, 6, 7]
    training = Training(server, folder, False, 1, resume="auto", **options)
    assert training.wait() == [0], training.output.read_text()
    assert log_of(folder) == log_of(uninterrupted(False, 1))
