"""The log of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplesion.engine.training_log import _number, cut_back, read_scalars


def write(path: Path, torn: str = "") -> None:
    """Four iterations, validated after the second and the fourth."""
    records = []
    for number in range(1, 5):
        records.append({"iter": number, "epoch": 1, "train/loss": 1 / number})
        if number % 2 == 0:
            records.append({"iter": number, "epoch": 1, "val/froc/mean": 0.5})
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + torn)


@pytest.mark.parametrize(
    ("iteration", "validated", "kept"),
    [(4, True, 6), (4, False, 5), (3, False, 4), (2, True, 3), (2, False, 2), (1, False, 1)],
)
def test_is_cut_back_to_the_checkpoint(
    tmp_path: Path, iteration: int, validated: bool, kept: int
) -> None:
    path = tmp_path / "scalars.jsonl"
    write(path)
    before = path.read_text().splitlines()
    cut_back(path, iteration, validated)
    assert path.read_text().splitlines() == before[:kept]


@pytest.mark.parametrize("torn", ['{"iter": 5, "tra', "\0\0\0\0", '"text"\n', "[]\n", "5\n"])
def test_torn_lines_go(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "scalars.jsonl"
    write(path, torn)
    cut_back(path, 9, validated=False)
    assert len(read_scalars(path)) == 6


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (0.1, 0.1),
        (np.float64(0.1), 0.1),
        (np.array(2), 2),
        (torch.tensor(1.5), 1.5),
        (np.array([1, 2]), None),
        (torch.ones(2), None),
        ("text", None),
        (True, None),
        (None, None),
    ],
)
def test_only_numbers_are_written(value: object, number: float | None) -> None:
    assert _number(value) == number
