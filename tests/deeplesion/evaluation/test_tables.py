"""Tables: what is in them, and that names of any kind leave them whole."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplesion.evaluation.bootstrap import bootstrap
from deeplesion.evaluation.comparison import Comparison, Difference, compare
from deeplesion.evaluation.matching import match_detections
from deeplesion.evaluation.reference import read_references
from deeplesion.evaluation.tables import (
    Row,
    Table,
    comparison_table,
    escape_latex,
    escape_markdown,
    results_table,
    strata_table,
    to_latex,
    to_markdown,
)

HIT = [0, 0, 9, 9]
FOUND = match_detections([[[*HIT, 0.9]]] * 9 + [[]], [[HIT]] * 10)
NOTHING = match_detections([[]] * 10, [[HIT]] * 10)
PATIENTS = list(range(10))
RESULT = bootstrap(
    FOUND, PATIENTS, lesion_strata=[np.arange(10) == 0, np.zeros(10, bool)], replicates=200
)


def lines_of(text: str) -> list[list[str]]:
    """Cells of the rows of a table in Markdown."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]


def test_detectors_stand_among_published_ones() -> None:
    references = read_references()
    missed = bootstrap(NOTHING, PATIENTS, replicates=20)
    table = results_table({"ours": RESULT, "bad": missed}, references)
    names = [row.name for row in table.rows]
    assert names[0] == "bad"
    assert names[-1] == "ours"
    assert names[1:-1] == [row.label for row in sorted(references, key=lambda row: row.mean)]
    assert [row.name for row in table.rows if not row.unconfirmed] == ["bad", "LN-DETR", "ours"]
    text = to_markdown(table)
    cells = lines_of(text)
    assert [cell.strip() for cell in cells[0]] == [
        "method",
        *("0.5", "1", "2", "4", "8", "16"),
        "mean",
    ]
    published = next(row for row in cells if "MULAN" in row[0])
    assert [cell.strip() for cell in published] == [
        "MULAN, 9 slices†",
        *("76.12", "83.69", "-", "92.30", "-", "-", "85.22"),
    ]
    assert re.fullmatch(r" 90\.00 \([67]\d\.\d-100\.0\) ", cells[-1][-1])
    assert cells[-1][0].strip() == "**ours**"
    assert "†: not confirmed in its primary source." in text
    assert "the 95 % interval of a bootstrap over 10 patients (200 draws, seed 0)" in text


def test_latex() -> None:
    text = to_latex(results_table({"50%_run & more": RESULT}, read_references()))
    lines = text.splitlines()
    assert r"\begin{tabular}{lrrrrrrr}" in lines
    assert r"method & 0.5 & 1 & 2 & 4 & 8 & 16 & mean \\" in lines
    assert r"A3D + SATr, 7 slices$^{\dagger}$ & 81.03 & -- & -- & -- & -- & -- & 87.92 \\" in lines
    assert lines[-5].startswith(r"\textbf{50\%\_run \& more} & 90.00 (")
    assert [line for line in lines if line.endswith("rule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert r"$^{\dagger}$: not confirmed in its primary source." in text
    body = [line for line in lines if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {7}


def test_no_mark_without_need() -> None:
    confirmed = [dataclasses.replace(row, confirmed=True) for row in read_references()]
    for table in (results_table({"ours": RESULT}), results_table({"ours": RESULT}, confirmed)):
        assert "†" not in to_markdown(table)
        assert "dagger" not in to_latex(table)


def test_published_ones_alone_and_nothing() -> None:
    lines = lines_of(to_markdown(results_table({}, read_references())))
    assert [cell.strip() for cell in lines[2]] == ["3DCE, 27 slices†", *"------", "75.55"]
    assert to_markdown(results_table({})).startswith("**Sensitivity in %")


def test_strata() -> None:
    labels = ["long axis < 10 mm", "nobody"]
    table = strata_table("Strata", labels, RESULT.strata, RESULT)
    text = to_markdown(table)
    rows = [[cell.strip() for cell in row] for row in lines_of(text)]
    assert rows[0][:4] == ["stratum", "images", "lesions", "patients"]
    assert rows[2][:4] == ["**all**", "10", "10", "10"]
    assert rows[3][:5] == ["long axis &lt; 10 mm", "1", "1", "1", "100.00"]
    assert rows[4] == ["nobody", "0", "0", "0", *"-------"]
    assert "long axis &lt; 10 mm: lesions of one patient alone: there is no interval." in text
    assert "nobody: no lesions: sensitivity is not defined." in text
    assert r"long axis $<$ 10 mm & 1 & 1 & 1 & 100.00" in to_latex(table)


def test_comparisons() -> None:
    rows = compare({"none": NOTHING, "a_b": FOUND}, PATIENTS, replicates=999)
    text = to_markdown(comparison_table(rows))
    cells = [cell.strip() for cell in lines_of(text)[-1]]
    assert cells[0] == r"**a\_b - none**"
    assert re.fullmatch(r"\+90\.00 \(\+[67]0\.0 to \+100\.0\), p = 0\.002", cells[-1])
    assert "paired bootstrap over patients (999 draws, seed 0)" in text
    assert r"+90.00 (" in to_latex(comparison_table(rows))
    assert comparison_table([]).rows == ()


def test_a_small_p_value_is_not_shown_as_zero() -> None:
    sure = Difference(-0.1, -0.2, -1e-6, 2e-5)
    row = Comparison("b", "a", 9, 9, {1.0: sure}, sure, 99_999, 0.95, 0, "")
    assert "-10.00 (-20.0 to +0.0), p &lt; 0.001" in to_markdown(comparison_table([row]))
    assert "p $<$ 0.001" in to_latex(comparison_table([row]))


@pytest.mark.parametrize(
    ("text", "markdown", "latex"),
    [
        ("a|b", r"a\|b", "a|b"),
        ("<b>*x*", r"&lt;b>\*x\*", r"$<$b$>$*x*"),
        ("a\nb  c", "a b c", "a b c"),
        ("x_1^2~", r"x\_1^2\~", r"x\_1\textasciicircum{}2\textasciitilde{}"),
        ("\\{}", "\\\\{}", r"\textbackslash{}\{\}"),
        ("<= 2 mm", "&lt;= 2 mm", r"$\leq$ 2 mm"),
        ("5 % & $", r"5 % & \$", r"5 \% \& \$"),
    ],
)
def test_escapes(text: str, markdown: str, latex: str) -> None:
    assert escape_markdown(text) == markdown
    assert escape_latex(text) == latex


@given(name=st.text(max_size=20))
def test_no_name_breaks_a_table(name: str) -> None:
    table = Table("title", ("head", "x"), (Row(name, (name,), bold=True),), (name,))
    assert {len(row) for row in lines_of(to_markdown(table))} == {2}
    text = to_latex(table)
    assert text.count(r" \\" + "\n") == 2
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
