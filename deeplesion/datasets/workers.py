"""Work dealt to several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_map(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ordered: bool = True
) -> Iterator[Iterator[Result]]:
    """Apply ``work`` to ``items`` lazily, in this process or in ``workers`` others.

    Workers never are forks of this process: a fork of one that has used OpenCV's threads hangs.

    Args:
        work: A function that can be pickled.
        items: What to apply it to.
        workers: Number of processes; 1 stays in this one.
        ordered: Give results in the order of ``items``, not as they come.

    Raises:
        ValueError: If ``workers`` is < 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    if workers == 1:
        yield map(work, items)
        return
    clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(clean).Pool(workers, initializer=_start) as pool:
        yield pool.imap(work, items) if ordered else pool.imap_unordered(work, items)


def _start() -> None:
    # Ctrl-C is for the parent, which stops its workers; and each process is one core's work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
