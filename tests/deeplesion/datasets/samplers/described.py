"""Data sets that only tell what is in their samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

INTERVALS_MM = (0.5, 1.0, 2.0, 2.5, 4.0, 5.0, 7.0, math.nan)
Lesion = dict[str, Any]


def lesion(coarse_type: int = -1, height: float = math.nan, long_axis: float = 12.0) -> Lesion:
    """What a data info says of a lesion."""
    return {
        "coarse_type": coarse_type,
        "location": (0.5, 0.5, height),
        "diameters_mm": (long_axis, 5.0),
    }


class Described:
    """Samples of given slice intervals, each with its lesions; nothing can be loaded.

    Args:
        intervals: In mm.
        lesions: Of each sample; none by default.
    """

    def __init__(
        self, intervals: Sequence[float], lesions: Sequence[Sequence[Lesion]] | None = None
    ) -> None:
        self.intervals = intervals
        self.lesions = lesions if lesions is not None else [[] for _ in intervals]

    def __len__(self) -> int:
        return len(self.intervals)

    def __getitem__(self, index: int) -> None:
        raise AssertionError("a sampler loads nothing")

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What is known of a sample."""
        return {"slice_interval": self.intervals[index], "instances": self.lesions[index]}


def of_types(*types: int) -> Described:
    """One sample of 1 mm per type, with one lesion of it."""
    return Described([1.0] * len(types), [[lesion(coarse_type=t)] for t in types])


def as_process(sampler: Any, rank: int, processes: int) -> Any:
    """A sampler as one of some processes has it."""
    sampler.rank, sampler.world_size = rank, processes
    return sampler
