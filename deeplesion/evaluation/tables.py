"""Tables as papers print them, in Markdown and LaTeX: detectors, strata, comparisons."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from deeplesion.evaluation.bootstrap import BootstrapResult, Interval, SetFigures
from deeplesion.evaluation.comparison import Comparison, Difference
from deeplesion.evaluation.froc import REPORT_FPS
from deeplesion.evaluation.reference import Reference

UNCONFIRMED = "not confirmed in its primary source"
_MARKDOWN = {**{char: "\\" + char for char in "\\`*_[]#|~$"}, "<": "&lt;"}
_LATEX = {
    **{char: "\\" + char for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "<=": r"$\leq$",
    ">=": r"$\geq$",
}
_LATEX_PATTERN = re.compile("|".join(map(re.escape, sorted(_LATEX, key=len, reverse=True))))

#: A text, a figure from 0 to 1 that is shown in %, or nothing.
Cell = str | Interval | Difference | None


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        name: Of the method or stratum.
        cells: One for each column after the first.
        bold: Whether the name stands out: evaluated here, not published.
        unconfirmed: Whether the row has the mark of figures that could not be confirmed.
    """

    name: str
    cells: tuple[Cell, ...]
    bold: bool = False
    unconfirmed: bool = False


class Table(NamedTuple):
    """A table apart from how it is written.

    Attributes:
        title: What it is.
        head: Names of the columns.
        rows: Its rows.
        notes: Sentences below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def results_table(
    results: Mapping[str, BootstrapResult], references: Sequence[Reference] = ()
) -> Table:
    """Detectors, with published results among them, by rising mean.

    Args:
        results: By the name of the detector, of the same number of false positives per image.
        references: Published results, which have no intervals.

    Returns:
        Columns are sensitivities at numbers of false positives per image and their mean, in %.
        Detectors evaluated here are bold, published figures that are not confirmed are marked.
    """
    first = next(iter(results.values()), None)
    fps = list(first.overall.sensitivity) if first else list(REPORT_FPS)
    own = [
        (result.overall.mean.value, Row(name, _figures(result.overall, fps), bold=True))
        for name, result in results.items()
    ]
    published = [(row.mean, _published(row, fps)) for row in references]
    # A mean that is not defined comes first.
    rows = sorted([*published, *own], key=lambda item: (not math.isnan(item[0]), item[0]))
    notes = [_measure(first)] if first else []
    if references:
        notes.append("Bold: evaluated here. Others: as published on the official test split.")
    return Table(
        "Sensitivity in % at false positives per image",
        ("method", *(f"{value:g}" for value in fps), "mean"),
        tuple(row for _, row in rows),
        tuple(notes),
    )


def strata_table(
    title: str, labels: Sequence[str], figures: Sequence[SetFigures], result: BootstrapResult
) -> Table:
    """Strata of one detector.

    Args:
        title: What they are, and how they are scored.
        labels: Of the strata.
        figures: Of the strata, of ``result``.
        result: Where they come from; its whole set is the first row.

    Returns:
        Columns are images, lesions, patients, and as in :func:`results_table`.
    """
    fps = list(result.overall.sensitivity)
    rows = [
        Row(label, (*(f"{n}" for n in row[:3]), *_figures(row, fps)), bold=row is result.overall)
        for label, row in zip(("all", *labels), (result.overall, *figures), strict=True)
    ]
    notes = [_measure(result)]
    shown = zip(labels, figures, strict=True)
    notes += [f"{label}: {part.note}." for label, part in shown if part.note]
    head = ("stratum", "images", "lesions", "patients", *(f"{f:g}" for f in fps), "mean")
    return Table(title, head, tuple(rows), tuple(notes))


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Differences of detectors from the first.

    Args:
        comparisons: Of :func:`deeplesion.evaluation.comparison.compare`.

    Returns:
        Columns are operating points and the mean, cells differences in points with interval and
        p-value.
    """
    first = next(iter(comparisons), None)
    fps = list(first.sensitivity) if first else []
    rows = [
        Row(f"{c.name} - {c.baseline}", (*(c.sensitivity[f] for f in fps), c.mean), bold=True)
        for c in comparisons
    ]
    notes = []
    if first:
        notes = [
            f"Difference in points, in brackets the {100 * first.level:g} % interval of a paired "
            f"bootstrap over patients ({first.replicates} draws, seed {first.seed}); p: "
            "two-sided, not corrected for the number of comparisons."
        ]
    notes += [f"{c.name} - {c.baseline}: {c.note}." for c in comparisons if c.note]
    head = ("difference", *(f"{value:g}" for value in fps), "mean")
    return Table("Differences of sensitivity in points", head, tuple(rows), tuple(notes))


def to_markdown(table: Table) -> str:
    """The table in Markdown, its notes below; names are escaped."""
    text = [[escape_markdown(cell) for cell in table.head]]
    text.append(["---", *["---:"] * (len(table.head) - 1)])
    for row in table.rows:
        name = escape_markdown(row.name)
        name = f"**{name}**" if row.bold else name
        cells = [_text(cell, escape_markdown, "-") for cell in row.cells]
        text.append([name + "†" * row.unconfirmed, *cells])
    notes = [escape_markdown(note) for note in table.notes]
    if any(row.unconfirmed for row in table.rows):
        notes.append(f"†: {UNCONFIRMED}.")
    body = "\n".join("| " + " | ".join(line) + " |" for line in text)
    return "\n\n".join([f"**{escape_markdown(table.title)}**", body, *notes]) + "\n"


def to_latex(table: Table) -> str:
    """The table in LaTeX by the package booktabs, its notes below; names are escaped."""
    lines = []
    for row in table.rows:
        name = escape_latex(row.name)
        name = rf"\textbf{{{name}}}" if row.bold else name
        cells = [_text(cell, escape_latex, "--") for cell in row.cells]
        lines.append([name + r"$^{\dagger}$" * row.unconfirmed, *cells])
    notes = [escape_latex(note) for note in table.notes]
    if any(row.unconfirmed for row in table.rows):
        notes.append(rf"$^{{\dagger}}$: {UNCONFIRMED}.")
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape_latex(table.title)}.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
            r"\toprule",
            " & ".join(map(escape_latex, table.head)) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            *([r"\par\smallskip\footnotesize " + " ".join(notes)] if notes else []),
            r"\end{table}",
            "",
        ]
    )


def escape_markdown(text: str) -> str:
    """A text that Markdown shows as it is, also within a table."""
    return "".join(_MARKDOWN.get(char, char) for char in " ".join(text.split()))


def escape_latex(text: str) -> str:
    """A text that LaTeX prints as it is; ``<=`` and ``>=`` as signs."""
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match[0]], " ".join(text.split()))


def _figures(figures: SetFigures, fps: Sequence[float]) -> tuple[Cell, ...]:
    return (*(figures.sensitivity.get(value) for value in fps), figures.mean)


def _published(row: Reference, fps: Sequence[float]) -> Row:
    cells = [row.sensitivity.get(value) for value in fps]
    shown = [None if value is None else _alone(value) for value in (*cells, row.mean)]
    return Row(row.label, tuple(shown), unconfirmed=not row.confirmed)


def _alone(value: float) -> Interval:
    return Interval(value, math.nan, math.nan)


def _measure(result: BootstrapResult) -> str:
    means = ", ".join(f"{value:g}" for value in result.mean_fps)
    return (
        f"Sensitivity in %, in brackets the {100 * result.level:g} % interval of a bootstrap over "
        f"{result.patients} patients ({result.replicates} draws, seed {result.seed}). mean: at "
        f"{means} false positives per image."
    )


def _text(cell: Cell, escape: Callable[[str], str], dash: str) -> str:
    """A cell as text; ``dash`` stands for nothing, and between the ends of an interval."""
    if isinstance(cell, str):
        return escape(cell)
    if cell is None or math.isnan(cell.value):
        return dash
    sign = "+" if isinstance(cell, Difference) else ""
    value = _percent(cell.value, 2, sign)
    if math.isnan(cell.low):
        return value
    low, high = _percent(cell.low, 1, sign), _percent(cell.high, 1, sign)
    text = f"{value} ({low} to {high})" if sign else f"{value} ({low}{dash}{high})"
    return f"{text}, {_chance(cell.p_value, escape)}" if isinstance(cell, Difference) else text


def _chance(p_value: float, escape: Callable[[str], str]) -> str:
    return escape("p < 0.001") if p_value < 0.001 else f"p = {p_value:.3f}"


def _percent(value: float, digits: int, sign: str) -> str:
    # Adding 0 makes a rounded -0 positive.
    return f"{round(100 * value, digits) + 0.0:{sign}.{digits}f}"
