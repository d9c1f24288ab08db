"""Tests of the figures that benchmarks report."""

from __future__ import annotations

import pytest

from benchmarks.figures import Figure, Kind


@pytest.mark.parametrize(
    ("kind", "ours", "reference", "bar", "value", "holds"),
    [
        ("speedup", 2.0, 6.0, 3.0, 3.0, True),
        ("speedup", 2.0, 5.0, 3.0, 2.5, False),
        ("share", 1.1, 1.0, 1.1, 1.1, True),
        ("share", 3.0, 2.0, 1.1, 1.5, False),
        ("limit", 2.5, None, 3.0, 2.5, True),
        ("limit", 3.5, None, 3.0, 3.5, False),
        ("speedup", 2.0, 6.0, None, 3.0, None),
    ],
)
def test_a_figure_is_compared_in_its_own_way(
    kind: Kind,
    ours: float,
    reference: float | None,
    bar: float | None,
    value: float,
    holds: bool | None,
) -> None:
    figure = Figure("key", "what", "s", ours, reference, "textbook", kind, bar)
    assert figure.value == pytest.approx(value)
    assert figure.holds is holds


def test_a_ratio_needs_something_to_compare_with() -> None:
    with pytest.raises(ValueError, match="reference of sample must be a number, got None"):
        Figure("sample", "what", "s", 1.0, None, "textbook", "speedup")


def test_kinds_are_checked() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of .*'speedup'.*, got 'ratio'"):
        Figure("sample", "what", "s", 1.0, 2.0, "textbook", "ratio")  # type: ignore[arg-type]
