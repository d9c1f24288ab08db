"""Strata by hand: edges, what is unknown, and the kinds."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.strata import (
    KINDS,
    Stratum,
    binned,
    interval_stratum,
    size_stratum,
    strata_of,
)
from tests.deeplesion.evaluation.test_comparison import case

HIT = [0.0, 0, 9, 9]


@pytest.mark.parametrize(
    ("interval", "stratum"),
    [
        (0.6, "thin"),
        (2.0, "thin"),
        (2.0 + 1e-9, "thin"),
        (2.5, "other"),
        (5.0, "thick"),
        (10, "other"),
        (0.0, "other"),
        (math.nan, "other"),
    ],
)
def test_interval_strata(interval: float, stratum: str) -> None:
    assert interval_stratum(interval) == stratum


@pytest.mark.parametrize(
    ("axis", "stratum"),
    [
        (9.99, "small"),
        (10 - 1e-9, "medium"),
        (10, "medium"),
        (30, "medium"),
        (30 + 1e-9, "medium"),
        (30.1, "large"),
        (math.nan, "unknown"),
    ],
)
def test_size_strata(axis: float, stratum: str) -> None:
    assert size_stratum(axis) == stratum


def made(number: int, lesions: int, **changes: object) -> Case:
    plain = case(f"{number:06d}_01_01_001.png", [HIT] * lesions)
    arrays = {
        name: np.array(value) if isinstance(value, list) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(plain, **arrays)


CASES = [
    made(
        1,
        2,
        slice_interval=1.0,
        long_axes=[8.0, 35.0],
        coarse_types=[5, 4],
        heights=[0.1, 1 / 3],
        gender="F",
        age=29.0,
    ),
    made(2, 1, slice_interval=5.0, long_axes=[30.0], coarse_types=[-1], gender="M", age=30.0),
    made(3, 0, slice_interval=math.nan, gender="F"),
    made(4, 1, slice_interval=2.5, long_axes=[math.nan], coarse_types=[99], heights=[0.9]),
]


def masks(found: list[Stratum]) -> dict[str, list[int]]:
    """Lesions of each stratum by name."""
    return {stratum.name: np.flatnonzero(stratum.lesions).tolist() for stratum in found}


def test_kinds_by_hand() -> None:
    assert masks(strata_of(CASES, ["slice_interval"])) == {
        "thin": [0, 1],
        "thick": [2],
        "other": [3],
        "unknown": [],
    }
    assert masks(strata_of(CASES, ["long_axis"])) == {
        "small": [0],
        "medium": [2],
        "large": [1],
        "unknown": [3],
    }
    assert masks(strata_of(CASES, ["coarse_type"])) == {
        "liver": [1],
        "lung": [0],
        "unknown": [2, 3],
    }
    assert masks(strata_of(CASES, ["height"])) == {
        "< 0.333": [0],
        "0.333 to < 0.667": [1],
        ">= 0.667": [3],
        "unknown": [2],
    }
    assert masks(strata_of(CASES, ["gender"])) == {"F": [0, 1], "M": [2], "unknown": [3]}
    assert masks(strata_of(CASES, ["age"])) == {
        "20 to < 30": [0, 1],
        "30 to < 40": [2],
        "unknown": [3],
    }


def test_strata_of_images_tell_their_images() -> None:
    thin, _, _, unknown = strata_of(CASES, ["slice_interval"])
    assert thin.images is not None
    assert thin.images.tolist() == [True, False, False, False]
    assert unknown.images is not None
    assert unknown.images.tolist() == [False, False, True, False]
    assert all(stratum.images is None for stratum in strata_of(CASES, ["long_axis"]))
    assert thin.label == "thin (<= 2 mm)"


def test_every_kind_parts_the_lesions() -> None:
    found = strata_of(CASES)
    assert list(dict.fromkeys(stratum.kind for stratum in found)) == list(KINDS)
    for kind in KINDS:
        parts = [stratum.lesions for stratum in found if stratum.kind == kind]
        assert np.sum(parts, axis=0).tolist() == [1, 1, 1, 1]
    assert len({stratum.label for stratum in found}) == len(found)


def test_other_edges() -> None:
    edges = {"slice_interval": [1.0, 2.5], "long_axis": [8, 35], "age": [30], "height": [0.5]}
    found = strata_of(CASES, list(edges), edges)
    assert [(stratum.label, np.flatnonzero(stratum.lesions).tolist()) for stratum in found] == [
        ("slice interval <= 1 mm", [0, 1]),
        ("slice interval > 1 to 2.5 mm", [3]),
        ("slice interval > 2.5 mm", [2]),
        ("slice interval unknown", []),
        ("long axis 8 to < 35 mm", [0, 2]),
        ("long axis >= 35 mm", [1]),
        ("long axis unknown", [3]),
        ("age < 30 years", [0, 1]),
        ("age >= 30 years", [2]),
        ("age unknown", [3]),
        ("body height < 0.5", [0, 1]),
        ("body height >= 0.5", [3]),
        ("body height unknown", [2]),
    ]


def test_bins() -> None:
    names, order = binned([4, 5 - 1e-9, 5, 10, math.nan], [5, 10])
    assert names.tolist() == ["< 5", "5 to < 10", "5 to < 10", ">= 10", "unknown"]
    assert order == ["< 5", "5 to < 10", ">= 10", "unknown"]
    names, order = binned([4, 5 + 1e-9, 10, 11], [5, 10], upper=True)
    assert names.tolist() == ["<= 5", "<= 5", "> 5 to 10", "> 10"]
    given = np.array([5 + 1e-9])
    binned(given, [5])
    assert given[0] != 5


def test_no_images() -> None:
    assert strata_of([]) == []


@pytest.mark.parametrize(
    ("kinds", "edges", "message"),
    [
        (["size"], {}, "kind of strata must be one of slice_interval, .*, got 'size'"),
        (KINDS, {"weight": [1]}, "must be one of .*, got 'weight'"),
        (KINDS, {"gender": [1]}, "gender is not a measure: edges are for slice_interval, long"),
        (KINDS, {"age": [40, 30]}, r"edges must be finite numbers that rise, got \[40, 30\]"),
        (KINDS, {"age": []}, "edges must be finite numbers that rise, got"),
        (KINDS, {"age": [math.nan]}, "edges must be finite numbers that rise, got"),
    ],
)
def test_bad_kinds_and_edges(kinds: list, edges: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strata_of(CASES, kinds, edges)
