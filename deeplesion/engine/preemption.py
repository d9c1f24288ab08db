"""Signals that ask a training to end: a checkpoint first, then an exit code that tells why.

Clusters warn before they take a machine away: Slurm by SIGUSR1 (``#SBATCH --signal=USR1@120``) or
SIGTERM. The training finishes its iteration, writes a checkpoint and ends with
``REQUEUE_EXIT_CODE``; a script that sees it starts the same command again with ``--resume``. Ctrl-C
does the same with ``INTERRUPT_EXIT_CODE``, after which nobody starts it again.

A launcher has to hand a signal on to its processes (torchrun does for SIGTERM, not for SIGUSR1), to
leave them time to write, and to end with their exit code.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import parent_process
from types import FrameType, TracebackType
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size

#: "Temporary failure" of sysexits.h: the training is not done, start it again with ``--resume``.
REQUEUE_EXIT_CODE = 75
#: After Ctrl-C, as shells have it.
INTERRUPT_EXIT_CODE = 130
EXIT_CODES = {
    signal.SIGINT: INTERRUPT_EXIT_CODE,
    signal.SIGTERM: REQUEUE_EXIT_CODE,
    signal.SIGUSR1: REQUEUE_EXIT_CODE,
}
# Launcher and cluster may both send one and the same request; a person who repeats one is slower.
REPEAT_SECONDS = 2.0
STDERR = 2


class Preempted(SystemExit):
    """Ends a training between two iterations, when its checkpoint is written.

    Args:
        code: Exit code of the process.
    """


class StopSignals(AbstractContextManager):
    """While open, SIGTERM, SIGUSR1 and SIGINT are noted instead of ending the process.

    The same signal once more, over two seconds later, ends it at once. Outside the main thread,
    where Python has no signals, nothing is noted.

    Args:
        active: Whether to note any.

    Attributes:
        exit_code: Of the first signal that came, 0 before.
    """

    def __init__(self, active: bool = True) -> None:
        self.active = active
        self.exit_code = 0
        self._came: dict[int, float] = {}
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Begin to note signals."""
        if self.active and threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in EXIT_CODES}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the handlers back that were there."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, save: bool = False) -> tuple[int, bool]:
        """What the processes do after this iteration; each must ask after the same one.

        A signal may reach one process only, or reach two of them in different iterations.

        Args:
            save: Whether this process wants a checkpoint.

        Returns:
            Exit code to end with, or 0 to go on, and whether any wants a checkpoint.
        """
        if get_world_size() == 1:
            return self.exit_code, save
        wishes = torch.tensor([self.exit_code, int(save)])
        all_reduce(wishes, "max")
        exit_code, wanted = wishes.tolist()
        return exit_code, bool(wanted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = self._came.setdefault(number, now)
        if now - first > REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not self.exit_code:
            self.exit_code = EXIT_CODES[signal.Signals(number)]
            name = signal.Signals(number).name
            text = f"{name}: will end after this iteration; {name} again ends at once\n"
            # Not by print, which may be in the middle of a line when the signal comes.
            os.write(STDERR, text.encode())


class ShieldedWorker:
    """Starts a worker of a dataloader that only its parent can end.

    Ctrl-C and clusters signal all processes at once; without its workers the main one could not go
    on to the iteration that all processes agree to end at.

    Args:
        begin: What the worker would be started with, if anything.
    """

    def __init__(self, begin: Callable[[int], None] | None) -> None:
        self.begin = begin

    def __call__(self, worker_id: int) -> None:
        """Run in the worker.

        Args:
            worker_id: Number of the worker.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if (parent := parent_process()) is not None and hasattr(signal, "sigwaitinfo"):
            # A handler is not told who sends; who waits for a blocked signal is.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_obey_parent, args=(parent.pid,), daemon=True).start()
        if self.begin is not None:
            self.begin(worker_id)


def _obey_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
