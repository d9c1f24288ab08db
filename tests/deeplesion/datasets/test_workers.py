"""Work dealt to several processes."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from deeplesion.datasets.workers import ITEMS_AHEAD, WorkerError, process_map


def square(value: int) -> int:
    return value * value


def blur(value: int) -> int:
    cv2.GaussianBlur(np.zeros((512, 512, 3), np.float32), (31, 31), 5.0)
    return value


def process_id(value: int) -> int:
    return os.getpid()


def page_faults(megabytes: int) -> int:
    """Of an array like one that was freed just before."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(megabytes << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def fail(value: int) -> int:
    raise ValueError(f"cannot do {value}")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_items_are_dealt_out_as_these_are_taken(workers: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for value in range(50):
            taken.append(value)
            yield value

    with process_map(square, items(), workers) as results:
        assert next(results) == 0
        assert len(taken) <= 2 * ITEMS_AHEAD + 1
        assert list(results) == [value * value for value in range(1, 50)]


def test_one_worker_is_this_process() -> None:
    with process_map(process_id, [0], 1) as results:
        assert list(results) == [os.getpid()]


def test_workers_live_though_this_process_has_used_opencv_threads() -> None:
    blur(0)
    with process_map(blur, range(4), 2, ordered=False) as results:
        assert sorted(results) == [0, 1, 2, 3]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_workers_keep_memory_that_is_freed() -> None:
    pages = (8 << 20) // resource.getpagesize()
    with process_map(page_faults, [8], 2) as results:
        assert next(results) < pages / 10


def test_errors_of_workers_arrive() -> None:
    with (
        pytest.raises(ValueError, match="cannot do 3"),
        process_map(fail, [3], 2) as results,
    ):
        list(results)


def test_no_workers_are_refused() -> None:
    with (
        pytest.raises(ValueError, match="workers must be >= 1, got 0"),
        process_map(square, [], 0),
    ):
        pass


def die(value: int) -> int:
    os._exit(9)


def test_a_worker_that_dies_is_an_error() -> None:
    with (
        pytest.raises(WorkerError, match=r"a worker process died.*take fewer workers than 2"),
        process_map(die, range(40), 2) as results,
    ):
        list(results)
