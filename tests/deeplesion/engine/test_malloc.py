"""Memory that is kept when it is freed."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from deeplesion.engine import malloc
from tests.conftest import REPO_ROOT
from tests.forked import python


def test_malloc_is_told_where_it_can_be() -> None:
    code = "from deeplesion.engine.malloc import keep_freed_memory as k; print(k())"
    result = subprocess.run(
        [python(), "-c", code], capture_output=True, text=True, check=True, cwd=REPO_ROOT
    )
    assert result.stdout.strip() in ("True", "False")


@pytest.mark.parametrize(
    ("largest", "trims", "expected"),
    [
        (1 << 31, True, {-1: malloc.NEVER, -3: malloc.NEVER}),
        (1 << 25, True, {-1: malloc.NEVER, -3: 1 << 25}),
        (0, True, {-1: malloc.NEVER}),
        (1 << 31, False, {-3: malloc.NEVER}),
    ],
)
def test_malloc_is_told_all_that_it_takes(
    monkeypatch: pytest.MonkeyPatch, largest: int, trims: bool, expected: dict[int, int]
) -> None:
    told: dict[int, int] = {}

    def mallopt(option: int, value: int) -> int:
        taken = trims if option == malloc.M_TRIM_THRESHOLD else value <= largest
        if taken:
            told[option] = value
        return int(taken)

    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert malloc.keep_freed_memory() is (len(expected) == 2)
    assert told == expected


def test_another_malloc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    assert malloc.keep_freed_memory() is False
