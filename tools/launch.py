"""Start a tool in several processes by torchrun, so that it can be told to stop.

Takes the options of torchrun, and differs from it in three things:

* SIGTERM and SIGUSR1 (a cluster's warning) go on to the workers, which are given the time they
  need to write a checkpoint; torchrun ends them after a while, or dies of the second.
* Where workers exit with 75 (go on later), so does this, and nothing is restarted before.
* With --max-restarts, training goes on from its latest checkpoint: train.py gets --resume. And
  workers that start again find each other, not those that are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

REQUEUE = os.EX_TEMPFAIL
# What a shell adds to the number of the signal that ended a process.
SIGNALED = 128
FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
WORKER = "--as-worker"
STOP, WANTS_REQUEUE = "stop", "requeue"
RESUMABLE = "train.py"
# torchrun has workers meet at a store that still tells, after a restart, where those before were.
# With this variable there is a new one for each start.
NEW_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
# Of Linux: which signal to get when the process that started this one dies.
PR_SET_PDEATHSIG = 1
# torchrun says that it cannot watch for signals in a thread, which is why it runs in one.
NOTICE = "Failed to register signal handlers"
EXAMPLE = """\
usage: tools/launch.py [options of torchrun] TOOL [arguments of the tool]
example: python tools/launch.py --standalone --nproc-per-node 2 tools/train.py CONFIG"""


class Launch:
    """A run of torchrun whose workers are in reach.

    Args:
        folder: Where the workers leave their process ids, and what is to be known of the others.

    Attributes:
        resumable: Whether the tool can go on later from where it was told to end.
    """

    resumable = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received = 0
        self.error: BaseException | None = None
        for name in FORWARDED:
            signal.signal(name, self._forward)

    def run(self, torchrun: Callable[[], Any]) -> int:
        """Run torchrun in a thread, and pass signals on meanwhile.

        Args:
            torchrun: Returns when all workers have ended well, raises when one has not.

        Returns:
            Exit code: 0, 75 to go on later, 128 and the signal, or 1.

        Raises:
            BaseException: What torchrun raised but for the failure of a worker.
        """
        thread = threading.Thread(target=self._call, args=(torchrun,), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
        return self._exit_code()

    def _call(self, torchrun: Callable[[], Any]) -> None:
        try:
            torchrun()
        except BaseException as error:
            self.error = error

    def _forward(self, signum: int, frame: FrameType | None) -> None:
        # Who asks twice does not want to wait.
        hurry = self.received == signum == signal.SIGINT
        self.received = signum
        (self.folder / STOP).touch()
        for file in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.stem.split("-")[1]), signal.SIGKILL if hurry else signum)

    def _exit_code(self) -> int:
        failures = getattr(self.error, "failures", None)
        if self.error is not None and failures is None:
            raise self.error
        codes = {failure.exitcode for failure in (failures or {}).values()}
        wanted = REQUEUE in codes or any(self.folder.glob(f"*.{WANTS_REQUEUE}"))
        # Where one fails torchrun tells the others to end, who then want to go on later.
        if wanted and (self.received or codes <= {REQUEUE}):
            return REQUEUE
        to_requeue = (signal.SIGUSR1, signal.SIGTERM) if self.resumable else (signal.SIGUSR1,)
        if self.received in to_requeue and self.error is None:
            # It came before there was a worker to tell, or when all had come to their end.
            return 0 if any(self.folder.glob("*.pid")) else REQUEUE
        if self.received:
            return SIGNALED + self.received
        if self.error is not None:
            print(self.error, file=sys.stderr)
            return 1
        return 0


def work(folder: Path, script: str, arguments: list[str]) -> int:
    """Be a worker: run the tool, and let torchrun take an exit to be requeued for a good one.

    Args:
        folder: Of the :class:`Launch`.
        script: The tool.
        arguments: Of the tool.

    Returns:
        Exit code for torchrun; another one is raised as ``SystemExit``.
    """
    if (folder / STOP).exists():
        return 0
    _die_with_parent()
    rank = os.environ["LOCAL_RANK"]
    # Until the tool has its own way to stop, there is nothing to lose.
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(REQUEUE))
    if _is_resumable(script):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(REQUEUE))
    (folder / f"{rank}.{WANTS_REQUEUE}").unlink(missing_ok=True)
    for old in folder.glob(f"{rank}-*.pid"):
        old.unlink()
    mine = folder / f"{rank}-{os.getpid()}.pid"
    mine.touch()
    if (folder / STOP).exists():
        # A signal that came meanwhile may have found no process to go to, but leaves this behind.
        mine.unlink()
        return 0
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code != REQUEUE:
            raise
        (folder / f"{rank}.{WANTS_REQUEUE}").touch()
    return 0


def _is_resumable(script: str) -> bool:
    return Path(script).name == RESUMABLE


def _die_with_parent() -> None:
    """Leave no worker behind that nobody waits for any more, where the system can tell."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [WORKER]:
        return work(Path(argv[1]), argv[2], argv[3:])
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\n{EXAMPLE}")
        return 0 if argv else 2
    with tempfile.TemporaryDirectory(prefix="launch_") as folder:
        return launch(Launch(Path(folder)), argv)


def launch(own: Launch, argv: list[str]) -> int:
    """Start the workers and wait for them.

    Args:
        own: Listens for signals.
        argv: Options of torchrun, the tool and its arguments.

    Returns:
        Exit code.
    """
    # Takes seconds, of which a worker has no need.
    from torch.distributed.run import parse_args, run

    args = parse_args(argv)
    if args.module or args.no_python:
        print("error: the tool must be a Python file", file=sys.stderr)
        return 2
    tool, arguments = args.training_script, list(args.training_script_args)
    resumes = any(text.partition("=")[0] == "--resume" for text in arguments)
    own.resumable = _is_resumable(tool)
    # From the start, for a worker that comes in a lost one's place does not know of a restart.
    if args.max_restarts and own.resumable and not resumes:
        arguments.append("--resume")
    if args.standalone or args.rdzv_backend == "c10d":
        os.environ.setdefault(NEW_STORE, "1")
    logger = logging.getLogger("torch.distributed.elastic.multiprocessing.api")
    logger.addFilter(lambda record: NOTICE not in record.getMessage())
    args.training_script_args = [WORKER, str(own.folder), tool, *arguments]
    args.training_script = __file__
    return own.run(lambda: run(args))


if __name__ == "__main__":
    raise SystemExit(main())
