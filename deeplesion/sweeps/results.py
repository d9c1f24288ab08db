"""One table of a sweep: the mean over seeds of every setting, with intervals."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deeplesion.evaluation.analysis import Settings
from deeplesion.evaluation.bootstrap import Interval, evaluate, no_interval, percentile_interval
from deeplesion.evaluation.cases import Case
from deeplesion.evaluation.comparison import Difference, p_values
from deeplesion.evaluation.froc import MEAN_FPS
from deeplesion.evaluation.matching import Floats, match_detections
from deeplesion.evaluation.resampling import Grid, Resampler, checked_grid, patient_indices
from deeplesion.evaluation.tables import Cell, Row, Table, to_markdown
from deeplesion.io import atomic_write, write_json


class SettingFigures(NamedTuple):
    """Figures of a setting: means over its seeds.

    Attributes:
        name: Of the setting.
        means: Mean sensitivity by seed.
        sensitivity: By false positives per image.
        mean: Of the mean sensitivities.
        spread: Standard deviation of the mean sensitivity over seeds; NaN of one seed.
        difference: Of the mean from the first setting; None for that itself.
    """

    name: str
    means: dict[int, float]
    sensitivity: dict[float, Interval]
    mean: Interval
    spread: float
    difference: Difference | None


def summarize(
    cases: Sequence[Case],
    detections: Mapping[str, Mapping[int, Sequence[Floats]]],
    settings: Settings | None = None,
) -> list[SettingFigures]:
    """Figures of every setting, in the order given.

    All trainings are evaluated in the same draws of patients. The interval of a setting is that of
    its mean over seeds: it tells what other patients might have given. What other seeds might have
    given is told by the spread.

    Args:
        cases: The key slices.
        detections: By setting and seed, of each case ``(n, 5)`` x1, y1, x2, y2 in px and score.
        settings: How to score; None: the official protocol.
    """
    settings = settings or Settings()
    grid = checked_grid(settings.fps, MEAN_FPS)
    index, patients = patient_indices([case.patient for case in cases])
    lesions = [case.lesions for case in cases]
    samplers = [
        Resampler(
            match_detections(one, lesions, **settings.protocol), index, patients, grid.columns
        )
        for by_seed in detections.values()
        for one in by_seed.values()
    ]
    values, drawn = evaluate(samplers, patients, settings.replicates, settings.seed)
    values, drawn = grid.figures(values), grid.figures(drawn)
    with_lesions = {case.patient for case in cases if len(case.lesions)}
    if no_interval(sum(map(len, lesions)), len(with_lesions)):
        drawn = drawn[:, :0]
    rows: list[SettingFigures] = []
    start, first = 0, None
    for name, by_seed in detections.items():
        part = slice(start, start + len(by_seed))
        start = part.stop
        own = (values[part].mean(axis=0), drawn[part].mean(axis=0))
        first = first or own
        seeds = dict(zip(by_seed, values[part, len(grid.fps)].tolist(), strict=True))
        rows.append(_figures(name, seeds, own, first, grid, settings.level))
    return rows


def _figures(
    name: str,
    means: dict[int, float],
    own: tuple[Floats, Floats],
    first: tuple[Floats, Floats],
    grid: Grid,
    level: float,
) -> SettingFigures:
    values, drawn = own
    low, high = percentile_interval(drawn, level)
    intervals = [Interval(*c) for c in zip(*(x.tolist() for x in (values, low, high)), strict=True)]
    difference = None
    if own is not first:
        column = slice(len(grid.fps), len(grid.fps) + 1)
        apart = drawn[:, column] - first[1][:, column]
        ends = [float(end[0]) for end in percentile_interval(apart, level)]
        chance = math.nan if math.isnan(ends[0]) else float(p_values(apart)[0])
        value = float(values[len(grid.fps)] - first[0][len(grid.fps)])
        difference = Difference(value, ends[0], ends[1], chance)
    several = len(means) > 1
    return SettingFigures(
        name,
        means,
        dict(zip(grid.fps, intervals, strict=False)),
        intervals[len(grid.fps)],
        float(np.std(list(means.values()), ddof=1)) if several else math.nan,
        difference,
    )


def sweep_table(rows: Sequence[SettingFigures], settings: Settings) -> Table:
    """The figures as a table.

    Args:
        rows: Of :func:`summarize`.
        settings: How they were scored.
    """
    fps = list(rows[0].sensitivity) if rows else []
    lines = []
    for row in rows:
        cells: list[Cell] = [str(len(row.means)), *(row.sensitivity[f] for f in fps), row.mean]
        spread = "-" if math.isnan(row.spread) else f"{100 * row.spread:.2f}"
        lines.append(Row(row.name, (*cells, spread, row.difference), bold=False))
    notes = (
        f"Sensitivity in %, mean over seeds, in brackets the {100 * settings.level:g} % interval "
        f"of a bootstrap over patients ({settings.replicates} draws, seed {settings.seed}); "
        f"{settings.rule}. sd: standard deviation of the mean over seeds, in points. Difference of "
        "the mean from the first row, in points, in the same draws; p: two-sided, not corrected "
        "for the number of settings.",
    )
    head = ("setting", "seeds", *(f"{f:g}" for f in fps), "mean", "sd", "difference")
    return Table("Sensitivity at false positives per image", head, tuple(lines), notes)


def write_results(
    folder: str | os.PathLike[str],
    rows: Sequence[SettingFigures],
    settings: Settings,
    unfinished: Mapping[str, str],
) -> None:
    """Write ``sweep.md``, ``sweep.csv`` and ``sweep.json``.

    Args:
        folder: Where to.
        rows: Of :func:`summarize`.
        settings: How they were scored.
        unfinished: Why trainings are missing, by their names.
    """
    folder = Path(folder)
    text = to_markdown(sweep_table(rows, settings)) if rows else "No training is done yet.\n"
    if unfinished:
        text += "\nNot in the table:\n\n"
        text += "".join(f"- {name}: {why}\n" for name, why in unfinished.items())
    for name, content in (("sweep.md", text), ("sweep.csv", _csv(rows))):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    everything = {
        "protocol": settings.rule,
        "level": settings.level,
        "replicates": settings.replicates,
        "settings": [_plain(row) for row in rows],
        "unfinished": dict(unfinished),
    }
    write_json(folder / "sweep.json", everything, indent=1, allow_nan=False)


def _csv(rows: Sequence[SettingFigures]) -> str:
    """A row of each setting; empty where there is no number."""
    fps = list(rows[0].sensitivity) if rows else []
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figures = [*(f"sens@{f:g}" for f in fps), "mean"]
    columns = [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    rest = ["mean_sd", "difference", "difference_low", "difference_high", "p_value"]
    writer.writerow(["setting", "seeds", *columns, *rest])
    for row in rows:
        intervals = [*(row.sensitivity[f] for f in fps), row.mean]
        numbers = [value for interval in intervals for value in interval]
        numbers += [row.spread, *(row.difference or [math.nan] * 4)]
        cells = ["" if math.isnan(value) else repr(value) for value in numbers]
        writer.writerow([row.name, " ".join(map(str, row.means)), *cells])
    return stream.getvalue()


def _plain(row: SettingFigures) -> dict[str, Any]:
    return {
        "name": row.name,
        "means": {str(seed): _known(value) for seed, value in row.means.items()},
        "sensitivity": {f"{fps:g}": _fields(one) for fps, one in row.sensitivity.items()},
        "mean": _fields(row.mean),
        "mean_sd": _known(row.spread),
        "difference": _fields(row.difference) if row.difference else None,
    }


def _fields(figure: Interval | Difference) -> dict[str, float | None]:
    return {name: _known(value) for name, value in figure._asdict().items()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
