"""Which trainings a sweep is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplesion.engine.config import UsageError
from deeplesion.sweeps.plan import plan_runs, split_values


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config file."""
    (tmp_path / "net.py").touch()
    return str(tmp_path / "net.py")


def test_every_combination_seed_by_seed(config: str, tmp_path: Path) -> None:
    (tmp_path / "tsm.py").touch()
    grid = ["optimizer.lr=1e-3,1e-4", "a.scale=(64,64),(96,96)"]
    runs = plan_runs([config, str(tmp_path / "tsm.py")], grid, [3, 5])
    assert len(runs) == 2 * 2 * 2 * 2
    assert [run.seed for run in runs] == [3] * 8 + [5] * 8
    assert runs[1].overrides == ("optimizer.lr=1e-3", "a.scale=(96,96)")
    assert runs[1].name == "net_lr-1e-3_scale-96-96_seed3"
    assert runs[1].setting == runs[9].setting


def test_no_grid_is_the_config_itself(config: str) -> None:
    (run,) = plan_runs([config], [], [0])
    assert (run.overrides, run.name) == ((), "net_seed0")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("[1,2],[3,(4,5)]", ["[1,2]", "[3,(4,5)]"]),
        ("'a,b',\"c(d\"", ["'a,b'", '"c(d"']),
        ("", [""]),
    ],
)
def test_commas_in_brackets_and_quotes_part_nothing(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        (["lr"], [0], "--grid must be KEY=VALUE1,VALUE2,... of different values, got 'lr'"),
        (["lr="], [0], "got 'lr='"),
        (["lr=1,1"], [0], "got 'lr=1,1'"),
        (["lr=1", "lr=2"], [0], "each key of the grid must be given once, got lr lr"),
        ([], [1, 1], "each seed must be given once, got 1 1"),
        (["lr=-1,1"], [0], "two trainings would be called net_lr-1_seed0"),
    ],
)
def test_grids_that_cannot_be_are_named(
    grid: list[str], seeds: list[int], message: str, config: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan_runs([config], grid, seeds)


def test_missing_config_is_named() -> None:
    with pytest.raises(UsageError, match=r"config none\.py does not exist"):
        plan_runs(["none.py"], [], [0])
