"""Work dealt to several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TypeVar

import cv2

from deeplesion.engine.malloc import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Items dealt out for each worker, so that none waits for the parent.
ITEMS_AHEAD = 8


class WorkerError(RuntimeError):
    """A worker process that died."""


@contextmanager
def process_map(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ordered: bool = True
) -> Iterator[Iterator[Result]]:
    """Apply ``work`` to ``items`` lazily, in this process or in ``workers`` others.

    Workers never are forks of this process: a fork of one that has used OpenCV's threads hangs.
    They are forks of a server that has imported what the work needs, once for all of them.

    Args:
        work: A function that can be pickled.
        items: What to apply it to.
        workers: Number of processes; 1 stays in this one.
        ordered: Give results in the order of ``items``, not as they come.

    Raises:
        ValueError: If ``workers`` is < 1.
        WorkerError: If a worker dies.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if workers == 1:
        yield map(work, items)
        return
    clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(clean)
    if clean == "forkserver":
        context.set_forkserver_preload(["__main__", __name__, _module_of(work)])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start)
    try:
        yield _results(pool, work, iter(items), workers * ITEMS_AHEAD, ordered)
    except BrokenProcessPool:
        raise WorkerError(
            "a worker process died, killed by the system, it may be, for want of memory: "
            f"take fewer workers than {workers}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterator[Item],
    ahead: int,
    ordered: bool,
) -> Iterator[Result]:
    """Results, while no more than ``ahead`` items are dealt out or wait to be taken."""
    pending = [pool.submit(work, item) for item in islice(items, ahead)]
    while pending:
        first = pending[:1] if ordered else pending
        for future in wait(first, return_when=FIRST_COMPLETED).done:
            pending.remove(future)
            pending += [pool.submit(work, item) for item in islice(items, 1)]
            yield future.result()


def _module_of(work: Callable) -> str:
    while isinstance(work, partial):
        work = work.func
    return str(work.__module__)


def _start() -> None:
    # Ctrl-C is for the parent, which stops its workers; and each process is one core's work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    keep_freed_memory()
