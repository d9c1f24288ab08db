"""One HTML file that has the whole report: it loads nothing and works offline, on a phone too.

The page's sources are in ``deeplesion/evaluation/page``; how its data and its script stand in it:
:mod:`deeplesion.offline_page`. The script puts texts into the document as text alone.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from string import Template
from typing import Any

from deeplesion.io import atomic_write
from deeplesion.offline_page import escaped_json, page_source, script_hash

_REQUIRED = {
    "title": str,
    "provenance": list,
    "counts": dict,
    "fps": list,
    "mean_fps": list,
    "methods": list,
    "lesions": list,
    "gallery": list,
}
_METHOD_KEYS = ("name", "figures", "mean", "curve")


def write_report(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write the report.

    ``data`` is plain: dicts with str keys, lists (or tuples, or arrays), str, numbers, bool, None.
    NaN and None both mean unknown. Sensitivities are parts of 1 unless said otherwise. A *figure*
    is ``{"value", "low", "high"}``, the last two its interval, and may be left out.

    * ``title``; ``subtitle``: optional.
    * ``provenance``: pairs of label and value, whatever tells what was evaluated: files and their
      hashes, config, checkpoint, split, protocol, seed, versions.
    * ``counts``: numbers by name, such as ``{"images": 4817, "lesions": 4912}``.
    * ``fps``, ``mean_fps``: false positives per image of the table, and of its mean.
    * ``level``: of the intervals, such as 0.95; optional.
    * ``notes``: sentences a reader should not miss; optional.
    * ``methods``: for each detector ``name``; ``figures``: figure by ``f"{fps:g}"``; ``mean``: a
      figure; ``curve``: of :func:`deeplesion.evaluation.report_data.curve_points`, whose points the
      slider stops at; and, optional, ``band``: ``fps``, ``low``, ``high`` alike in length;
      ``strata``: rows of ``kind``, ``name``, ``label``, ``lesions`` (their number), ``value``,
      ``low``, ``high``; ``calibration``: rows of ``score``, ``precision``, ``low``, ``high``,
      ``boxes``; ``calibration_error``.
    * ``kinds``: title by kind of strata; optional. ``strata_note``: optional.
    * ``comparisons``: ``first``, ``second`` (names) and ``rows`` of ``fps`` (such as ``"0.5"`` or
      ``"mean"``), ``difference`` (second minus first), ``low``, ``high``, ``p``, and, optional,
      ``note``; optional.
    * ``references``: published results: ``method``, ``slices``, ``mean`` and ``figures`` (by
      ``f"{fps:g}"``), both in %, ``source``, ``confirmed``; optional. ``references_note``:
      optional.
    * ``lesions``: of :func:`deeplesion.evaluation.report_data.lesion_rows`.
    * ``gallery``, ``gallery_note``: of :func:`deeplesion.evaluation.report_data.gallery_data`.

    Args:
        path: The file, ``.html``.
        data: The report's, see above.

    Raises:
        ValueError: If a part is missing or of another type, ``methods`` is empty, or two have one
            name.
        TypeError: If something in ``data`` is not JSON's.
    """
    _check(data)
    page = render(data)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(data: Mapping[str, Any]) -> str:
    """The page as text; arguments and errors as those of :func:`write_report`."""
    _check(data)
    source, style, script = (
        page_source("deeplesion.evaluation", name) for name in ("page.html", "page.css", "page.js")
    )
    return Template(source).substitute(
        title=html.escape(data["title"]),
        style=style,
        script=script,
        script_hash=script_hash(script),
        data=escaped_json(data),
    )


def _check(data: Mapping[str, Any]) -> None:
    for key, kind in _REQUIRED.items():
        if not isinstance(data.get(key), kind):
            found = type(data[key]).__name__ if key in data else "nothing"
            raise ValueError(f"data[{key!r}] must be a {kind.__name__}, got {found}")
    if not data["methods"]:
        raise ValueError("data['methods'] must have at least one method, got none")
    for index, method in enumerate(data["methods"]):
        if missing := [key for key in _METHOD_KEYS if key not in method]:
            raise ValueError(f"data['methods'][{index}] lacks {', '.join(missing)}")
    names = [method["name"] for method in data["methods"]]
    if len(set(names)) < len(names):
        raise ValueError(f"data['methods'] must differ in name, got {names}")
    for index, row in enumerate(data["lesions"]):
        if missing := [name for name in names if name not in row["found"]]:
            raise ValueError(f"data['lesions'][{index}]['found'] lacks {', '.join(missing)}")
