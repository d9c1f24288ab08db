"""Tests of the figures that benchmarks report."""

from __future__ import annotations

import pytest

from benchmarks.figures import Figure, Kind, markdown, of_rounds


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


def test_rounds_are_compared_one_by_one() -> None:
    """A round in which all were slow counts like any other."""
    figure = of_rounds("a", "work", [1.0, 10.0, 2.0], [3.0, 20.0, 8.0], "textbook", "speedup", 2.5)
    assert figure.value == pytest.approx(3.0)
    assert figure.spread == pytest.approx((2.5, 3.5))
    assert figure.reference == 8.0
    assert figure.holds
    assert of_rounds("a", "", [1.0, 3.0], [2.0, 3.0], "2D", "share").value == pytest.approx(0.75)


def test_the_table() -> None:
    found = [
        Figure("a", "loading", "s", 0.01, 0.05, "textbook", "speedup", 4.0, (4.5, 5.5), "one core"),
        Figure("b", "import", "s", 4.0, None, "", "limit", 3.0),
        Figure("c", "size", "MB", 3.0, 4.0, "PNG", "share"),
    ]
    assert markdown(found).splitlines()[2:] == [
        "| loading (one core) | 0.01 s | textbook: 0.05 s | 5.00 (4.50-5.50) | >= 4 | holds |",
        "| import | 4 s |  |  | <= 3 | **missed** |",
        "| size | 3 MB | PNG: 4 MB | 0.75 |  |  |",
    ]


def test_a_record_has_the_verdict() -> None:
    record = Figure("b", "import", "s", 4.0, None, "", "limit", 3.0).record()
    assert (record["value"], record["holds"], record["key"]) == (4.0, False, "b")
