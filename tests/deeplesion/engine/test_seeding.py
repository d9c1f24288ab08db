"""Randomness by iteration."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from deeplesion.engine import seeding
from deeplesion.engine.seeding import VALIDATION, seed_iteration


@pytest.fixture(autouse=True)
def _states_stay_as_they_are() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


def numbers(*position: int) -> tuple[float, ...]:
    seed_iteration(*position)
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_follows_from_seed_iteration_and_purpose() -> None:
    assert numbers(0, 5) == numbers(0, 5)
    different = [numbers(0, 5), numbers(1, 5), numbers(0, 6), numbers(0, 5, VALIDATION)]
    assert len({number for three in different for number in three}) == 12


def test_every_process_draws_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = numbers(0, 5)
    monkeypatch.setattr(seeding, "get_rank", lambda: 1)
    assert not set(numbers(0, 5)) & set(first)
