"""One HTML file in which a person looks at a scan and at what was found in it.

The page's sources are in ``deeplesion/lesions/page``; how its data and its script stand in it:
:mod:`deeplesion.offline_page`; how its slices do: :mod:`deeplesion.lesions.pixels`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from deeplesion.io import atomic_write
from deeplesion.lesions.lesion import Lesion
from deeplesion.lesions.page_data import page_data
from deeplesion.lesions.pixels import PixelFormat, choose_format, encode_slice
from deeplesion.offline_page import escaped_json, page_source, script_hash
from deeplesion.scans.scan import Scan

#: What the slices may take in a page.
MAX_MEGABYTES = 100.0
_PACKAGE = "deeplesion.lesions"
#: In the order of the page; they share one scope.
_SCRIPTS = ("volume.js", "view.js", "overlay.js", "list.js", "input.js", "main.js")


def write_page(
    path: str | os.PathLike[str],
    scan: Scan,
    lesions: Sequence[Lesion],
    document: Mapping[str, Any],
    max_megabytes: float = MAX_MEGABYTES,
    hu_step: int | None = None,
    max_side: int | None = None,
    min_score: float = 0.0,
) -> PixelFormat:
    """Write the page of a scan; slices are written one by one.

    Args:
        path: The file, ``.html``.
        scan: The scan.
        lesions: What was found in it.
        document: The findings, as ``lesions.json`` has them. Of the patient the page tells what
            the document does.
        max_megabytes: A scan whose slices would take more is rounded to 2 or 4 HU or shrunk.
        hu_step: HU are rounded to multiples of it; None: as little as fits.
        max_side: Slices of a longer side in px are shrunk by a whole number; None: as little as
            fits.
        min_score: Lesions of a lower score are hidden at first.

    Returns:
        How exact the page shows the scan.

    Raises:
        ValueError: If the document's lesions are not those given, an argument is not positive, or
            a voxel is not finite.
    """
    pixels = choose_format(scan, max_megabytes, hu_step, max_side)
    head, tail = _frame(page_data(scan, lesions, document, pixels, min_score))
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(head)
        for z, hu in enumerate(scan.hu):
            packed = encode_slice(hu, pixels)
            file.write(f'<script type="text/plain" id="slice-{z}">{packed}</script>\n')
        file.write(tail)
    return pixels


def _frame(data: Mapping[str, Any]) -> tuple[str, str]:
    """The page before and after its slices."""
    parts = "\n".join(page_source(_PACKAGE, name) for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    head, tail = page_source(_PACKAGE, "page.html").split("$slices\n")
    filled = Template(head).substitute(
        style=page_source(_PACKAGE, "page.css"),
        script=script,
        script_hash=script_hash(script),
        data=escaped_json(data),
    )
    return filled, tail
