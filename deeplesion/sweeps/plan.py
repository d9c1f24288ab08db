"""Which trainings a sweep is made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from deeplesion.engine.config import UsageError

_BRACKETS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Run:
    """One training of a sweep.

    Attributes:
        config: The config file.
        overrides: ``KEY=VALUE`` of the grid, as ``--cfg-options`` takes them.
        seed: Its seed.
    """

    config: str
    overrides: tuple[str, ...]
    seed: int

    @property
    def setting(self) -> str:
        """What it has in common with the trainings by other seeds, as a name."""
        parts = [Path(self.config).stem]
        for override in self.overrides:
            key, _, value = override.partition("=")
            parts.append(f"{key.rpartition('.')[2]}-{_slug(value)}")
        return "_".join(parts)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.setting}_seed{self.seed}"


def plan_runs(configs: Sequence[str], grid: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Every config with every combination of the grid and every seed.

    Args:
        configs: Config files.
        grid: Each ``KEY=VALUE1,VALUE2,...``; commas within brackets or quotes part nothing.
        seeds: Seeds.

    Returns:
        The trainings, one seed of every setting after the other: where a sweep is cut short, all
        settings have been tried.

    Raises:
        UsageError: A config is not there, an axis is malformed, something is there twice, or two
            trainings would have one name.
    """
    for config in configs:
        if not Path(config).is_file():
            raise UsageError(f"config {config} does not exist: the configs are in configs/")
    axes = [_axis(text) for text in grid]
    for what, values in (
        ("config", configs), ("seed", seeds), ("key of the grid", [key for key, _ in axes])
    ):  # fmt: skip
        if len(set(values)) < len(values):
            raise UsageError(f"each {what} must be given once, got {' '.join(map(str, values))}")
    pairs = [[f"{key}={value}" for value in values] for key, values in axes]
    runs = [
        Run(config, overrides, seed)
        for seed in seeds
        for config in configs
        for overrides in product(*pairs)
    ]
    names: dict[str, Run] = {}
    for run in runs:
        if (other := names.setdefault(run.name, run)) != run:
            raise UsageError(
                f"two trainings would be called {run.name}: {_shown(other)} and {_shown(run)}; "
                "rename a config, or sweep them apart"
            )
    return runs


def split_values(text: str) -> list[str]:
    """Parts of a text between commas that are in neither brackets nor quotes.

    Example:
        >>> split_values("(64,64),'a,b',3")
        ['(64,64)', "'a,b'", '3']
    """
    parts, awaited = [""], [""]
    for char in text:
        if char == "," and awaited == [""]:
            parts.append("")
            continue
        parts[-1] += char
        if char == awaited[-1] and len(awaited) > 1:
            awaited.pop()
        elif awaited[-1] not in ("'", '"') and char in (*_BRACKETS, "'", '"'):
            awaited.append(_BRACKETS.get(char, char))
    return parts


def _axis(text: str) -> tuple[str, list[str]]:
    key, equals, rest = text.partition("=")
    values = split_values(rest)
    if not (key and equals) or "" in values or len(set(values)) < len(values):
        raise UsageError(f"--grid must be KEY=VALUE1,VALUE2,... of different values, got {text!r}")
    return key, values


def _slug(value: str) -> str:
    return re.sub(r"[^\w.]+", "-", value).strip("-")


def _shown(run: Run) -> str:
    return " ".join([run.config, *run.overrides])
