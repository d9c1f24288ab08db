"""Trainings that were never interrupted, to compare others with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.deeplesion.engine.toy_runs import Server, Training, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Starts toy trainings."""
    with serving() as started:
        yield started


@pytest.fixture(scope="session")
def uninterrupted(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool, int], Path]:
    """The work folder of a finished training by epochs or iterations, in so many processes."""

    @cache
    def finished(by_epoch: bool, processes: int) -> Path:
        folder = tmp_path_factory.mktemp("uninterrupted") / "work"
        training = Training(server, folder, by_epoch, processes)
        assert training.wait() == [0] * processes, training.output.read_text()
        return folder

    return finished
