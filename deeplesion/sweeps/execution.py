"""Running the trainings of a sweep as processes, so that each may fail, or be cut, alone."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from deeplesion.engine.config import UsageError
from deeplesion.engine.preemption import REQUEUE_EXIT_CODE
from deeplesion.io import write_json

RECORD = "sweep_run.json"
LOG = "sweep_run.log"
TEST_FOLDER = "test"
BEST = "best_froc_mean_*.pth"
#: What is passed on to the trainings.
WARNINGS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class Job:
    """A training with its evaluation.

    Attributes:
        name: How it is called.
        folder: Where its checkpoints, logs and results go.
        train: Command that trains, or goes on training.
        test: Command that evaluates; the best checkpoint is put in place of :data:`BEST`.
        settings: All that its result depends on, JSON's types.
    """

    name: str
    folder: Path
    train: tuple[str, ...]
    test: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def predictions(self) -> Path:
        """What its evaluation writes."""
        return self.folder / TEST_FOLDER / "predictions.json"


@dataclass
class Outcome:
    """What became of a training.

    Attributes:
        name: How it is called.
        status: ``done``, ``skipped`` (done before), ``failed`` or ``interrupted``.
        seconds: How long it took.
        reason: Why it failed.
    """

    name: str
    status: str
    seconds: float = 0.0
    reason: str = ""


def state_of(job: Job) -> str:
    """How far a training is.

    Returns:
        ``new``, ``begun``, ``trained`` or ``done``.

    Raises:
        UsageError: It was run with other settings.
    """
    try:
        record = json.loads((job.folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "new"
    except ValueError as error:
        raise UsageError(f"{job.folder / RECORD} is torn: remove {job.folder}") from error
    plain = json.loads(json.dumps(job.settings))
    if record.get("settings") != plain:
        keys = sorted(
            key
            for key in plain.keys() | record.get("settings", {}).keys()
            if plain.get(key) != record.get("settings", {}).get(key)
        )
        raise UsageError(
            f"{job.folder} was run with other settings ({', '.join(keys)}): choose another "
            "--work-dir, or remove it"
        )
    state = str(record.get("state"))
    return "trained" if state == "done" and not job.predictions.is_file() else state


@dataclass
class Pool:
    """Runs jobs, some at a time.

    Args:
        workers: How many at a time.
        devices: GPUs, one for each job at a time, in turn; empty: jobs see what there is.
        tell: Is told what happens.
    """

    workers: int = 1
    devices: Sequence[str] = ()
    tell: Callable[[str], None] = print
    _running: set[subprocess.Popen] = field(default_factory=set, init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs; one that fails stops no other.

        Args:
            jobs: What to run.

        Returns:
            What became of each. After a warning (SIGTERM, SIGUSR1), which the running ones get
            too, no more are begun.

        Raises:
            UsageError: One was run before with other settings; nothing is begun.
        """
        states = [state_of(job) for job in jobs]
        free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for number in range(self.workers):
            free.put(self.devices[number % len(self.devices)] if self.devices else None)
        with self._passing_on_warnings(), ThreadPoolExecutor(self.workers) as threads:
            try:
                return list(threads.map(partial(self._run, free), jobs, states))
            except KeyboardInterrupt:
                self._warn(signal.SIGTERM)
                raise

    def _run(self, free: queue.SimpleQueue[str | None], job: Job, state: str) -> Outcome:
        if state == "done":
            return Outcome(job.name, "skipped")
        if self._stopped.is_set():
            return Outcome(job.name, "interrupted")
        device = free.get()
        start = time.monotonic()
        try:
            outcome = self._train_and_test(job, state, device)
        except OSError as error:
            outcome = Outcome(job.name, "failed", reason=str(error))
        finally:
            free.put(device)
        outcome.seconds = time.monotonic() - start
        reason = f": {outcome.reason}" if outcome.reason else ""
        self.tell(f"{job.name}: {outcome.status} after {outcome.seconds:.0f} s{reason}")
        return outcome

    def _train_and_test(self, job: Job, state: str, device: str | None) -> Outcome:
        if state != "trained":
            self._record(job, "begun")
            self.tell(f"{job.name}: {'training' if state == 'new' else 'goes on training'}")
            if (problem := self._call(job, job.train, device)) is not None:
                return problem
            self._record(job, "trained")
        best = sorted(job.folder.glob(BEST), key=lambda path: path.stat().st_mtime)
        if not best:
            return Outcome(job.name, "failed", reason=f"no {BEST} in {job.folder}")
        command = tuple(str(best[-1]) if part == BEST else part for part in job.test)
        if (problem := self._call(job, command, device)) is not None:
            return problem
        self._record(job, "done")
        return Outcome(job.name, "done")

    def _call(self, job: Job, command: Sequence[str], device: str | None) -> Outcome | None:
        """Run a command; None where it went well."""
        env = dict(os.environ) if device is None else {**os.environ, "CUDA_VISIBLE_DEVICES": device}
        with (job.folder / LOG).open("ab") as log:
            with self._lock:
                if self._stopped.is_set():
                    return Outcome(job.name, "interrupted")
                process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
                self._running.add(process)
            code = process.wait()
            with self._lock:
                self._running.discard(process)
        if code == 0:
            return None
        if code == REQUEUE_EXIT_CODE or self._stopped.is_set():
            # Whoever warned one of them wants the machine back.
            self._stopped.set()
            return Outcome(job.name, "interrupted")
        return Outcome(job.name, "failed", reason=f"exit code {code}, see {job.folder / LOG}")

    def _record(self, job: Job, state: str) -> None:
        write_json(job.folder / RECORD, {"state": state, "settings": job.settings}, indent=1)

    def _warn(self, number: int) -> None:
        self._stopped.set()
        with self._lock:
            for process in self._running:
                process.send_signal(number)

    @contextmanager
    def _passing_on_warnings(self) -> Iterator[None]:
        def pass_on(number: int, frame: FrameType | None) -> None:
            self._warn(number)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, pass_on) for number in WARNINGS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
